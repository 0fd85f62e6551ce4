//! Serdes and configuration: bytes and messages.

use streams_core::Headers;
use streams_core::serde::{
    Bincode, BoolSerde, F32Serde, F64Serde, I16Serde, I32Serde, I64Serde, Json, Serde, SessionWindowedSerde,
    StringSerde, TimeWindowedSerde, UuidSerde,
};
use streams_core::{Window, Windowed};

fn check<T: PartialEq + std::fmt::Debug>(serde: impl Serde<T>, value: T, hex: &str) {
    let mut bytes = Vec::new();
    serde.serialize("t", &Headers::default(), &value, &mut bytes).unwrap();
    assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), hex);
    assert_eq!(serde.deserialize("t", &Headers::default(), &bytes).unwrap(), value);
}

#[test]
fn bytes_are_those_of_kafkas_serdes() {
    check(I64Serde, 42, "000000000000002a");
    check(I64Serde, -1, "ffffffffffffffff");
    check(I32Serde, 258, "00000102");
    check(I16Serde, -2, "fffe");
    check(F64Serde, 1.5, "3ff8000000000000");
    check(F32Serde, 1.5, "3fc00000");
    check(BoolSerde, true, "01");
    check(StringSerde, "é".to_owned(), "c3a9");
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let hex: String = uuid.bytes().map(|byte| format!("{byte:02x}")).collect();
    check(UuidSerde, uuid.parse().unwrap(), &hex);
    check(Json::<Vec<u8>>::new(), vec![1, 2], "5b312c325d");
    check(Bincode::<(u8, String)>::new(), (7, "a".to_owned()), "070161");
    let window = Windowed::new("k1".to_owned(), Window::new(60_000, 120_000));
    check(TimeWindowedSerde::new(StringSerde, Some(60_000)), window, "6b31000000000000ea60");
    let session = Windowed::new("k1".to_owned(), Window::new(1_000, 5_000));
    check(SessionWindowedSerde::new(StringSerde), session, "6b31000000000000138800000000000003e8");
}

#[test]
fn wrong_bytes_are_errors() {
    let none = Headers::default();
    assert!(I64Serde.deserialize("t", &none, b"1234567").is_err());
    assert!(BoolSerde.deserialize("t", &none, &[2]).is_err());
    assert!(Serde::<String>::deserialize(&StringSerde, "t", &none, &[0xff]).is_err());
    assert!(UuidSerde.deserialize("t", &none, b"no").is_err());
    assert!(Json::<u8>::new().deserialize("t", &none, b"{").is_err());
    assert!(Bincode::<u8>::new().deserialize("t", &none, &[1, 2]).is_err());
    assert!(TimeWindowedSerde::new(StringSerde, None).deserialize("t", &none, b"short").is_err());
}
