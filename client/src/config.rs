//! Configuration under Kafka's names. A name nobody knows is refused, with the nearest known one; a value that does not
//! parse or is out of range is refused with what is allowed.
//!
//! `properties!` writes a configuration struct from one table: the field, Kafka's name, the default, and the check.

use crate::error::ClientError;

/// A type that a configuration value can have.
pub trait Property: Sized {
    /// The value written as `text`; the error says what would be right.
    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! numeric {
    ($($kind:ty),*) => {$(
        impl Property for $kind {
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("must be a whole number from {} to {}", <$kind>::MIN, <$kind>::MAX))
            }
        }
    )*};
}
numeric!(i16, i32, i64, u32, usize);

impl Property for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }
}

impl Property for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Property for Option<i32> {
    fn parse(text: &str) -> Result<Self, String> {
        i32::parse(text).map(Some)
    }
}

impl Property for Option<String> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

/// Defines a configuration struct: public fields, a builder method per field, `set` by Kafka's name, `from_properties`.
macro_rules! properties {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $key:literal => $field:ident: $kind:ty = $default:expr $(, check $check:expr)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// Kafka's names of all settings.
            pub const NAMES: &'static [&'static str] = &[$($key),*];

            $(
                #[doc = concat!("Sets `", $key, "`.")]
                #[must_use]
                pub fn $field(mut self, value: impl Into<$kind>) -> Self {
                    self.$field = value.into();
                    self
                }
            )*

            /// Sets the setting of Kafka's name `name` from text.
            ///
            /// # Errors
            /// Unknown name (with the nearest known one), or a value that does not parse or is out of range.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), $crate::error::ClientError> {
                match name {
                    $($key => {
                        self.$field = <$kind as $crate::config::Property>::parse(value)
                            .map_err(|allowed| $crate::config::refuse($key, value, &allowed))?;
                    })*
                    _ => return Err($crate::config::unknown(name, Self::NAMES)),
                }
                self.check()
            }

            /// The defaults with `properties` set on them.
            ///
            /// # Errors
            /// As [`Self::set`].
            pub fn from_properties<'a>(
                properties: impl IntoIterator<Item = (&'a str, &'a str)>,
            ) -> Result<Self, $crate::error::ClientError> {
                let mut config = Self::default();
                for (name, value) in properties {
                    config.set(name, value)?;
                }
                Ok(config)
            }

            /// Refuses values out of range; done by `set`, and by whoever takes a config that was built in code.
            ///
            /// # Errors
            /// Names the first setting that is out of range.
            pub fn check(&self) -> Result<(), $crate::error::ClientError> {
                $($({
                    let check: fn(&$kind) -> Result<(), String> = $check;
                    check(&self.$field)
                        .map_err(|allowed| $crate::config::refuse($key, &$crate::config::shown(&self.$field), &allowed))?;
                })?)*
                Ok(())
            }
        }
    };
}
pub(crate) use properties;

/// The error of a value that is not allowed.
pub fn refuse(name: &str, value: &str, allowed: &str) -> ClientError {
    ClientError::Config(format!("{name}={value}: {allowed}"))
}

/// A value as messages show it; of a setting that may be left out, the value that was set.
pub(crate) fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => inner.to_owned(),
        None => text,
    }
}

/// The error of a name that nobody knows.
pub fn unknown(name: &str, known: &[&str]) -> ClientError {
    ClientError::Config(match base::nearest(name, known.iter().copied()) {
        Some(nearest) => format!("unknown setting {name}; did you mean {nearest}?"),
        None => format!("unknown setting {name}"),
    })
}

/// A check that a number is at least `$least`.
macro_rules! at_least {
    ($least:expr) => {
        |value| if *value >= $least { Ok(()) } else { Err(format!("must be at least {}", $least)) }
    };
}
pub(crate) use at_least;

/// As `at_least`, for a number that may be left to its default.
macro_rules! at_least_if_set {
    ($least:expr) => {
        |value| {
            if value.is_none_or(|value| value >= $least) { Ok(()) } else { Err(format!("must be at least {}", $least)) }
        }
    };
}
pub(crate) use at_least_if_set;

properties! {
    /// Settings of a [`Client`](crate::Client): connections, time-outs, back-off.
    pub struct ClientConfig {
        /// Brokers to start from: `host:port`, comma separated.
        "bootstrap.servers" => bootstrap_servers: String = String::new();
        /// Name given with every request, for the brokers' logs and quotas.
        "client.id" => client_id: String = "millstream".to_owned();
        /// How long one request may take before its connection counts as lost.
        "request.timeout.ms" => request_timeout_ms: i64 = 30_000, check at_least!(1);
        /// How long an admin call may take, with all its retries.
        "default.api.timeout.ms" => default_api_timeout_ms: i64 = 60_000, check at_least!(1);
        /// First wait before a failed request is sent again; doubles with each failure.
        "retry.backoff.ms" => retry_backoff_ms: i64 = 100, check at_least!(0);
        /// Longest wait before a failed request is sent again.
        "retry.backoff.max.ms" => retry_backoff_max_ms: i64 = 1_000, check at_least!(0);
        /// First wait before connecting again to a broker that could not be reached; doubles with each failure.
        "reconnect.backoff.ms" => reconnect_backoff_ms: i64 = 50, check at_least!(0);
        /// Longest wait before connecting again.
        "reconnect.backoff.max.ms" => reconnect_backoff_max_ms: i64 = 1_000, check at_least!(0);
        /// How long a connection may take to be made, its version handshake included; also how long a client looks for a
        /// first broker before it says that there is none.
        "socket.connection.setup.timeout.ms" => socket_connection_setup_timeout_ms: i64 = 10_000, check at_least!(1);
        /// Age at which metadata is asked for anew although nothing changed.
        "metadata.max.age.ms" => metadata_max_age_ms: i64 = 300_000, check at_least!(0);
        /// Whether asking for an unknown topic may create it (if the broker allows it, too).
        "allow.auto.create.topics" => allow_auto_create_topics: bool = true;
        /// Kernel send buffer of a connection in bytes; -1 leaves the system's.
        "send.buffer.bytes" => send_buffer_bytes: i32 = 131_072, check at_least!(-1);
        /// Kernel receive buffer of a connection in bytes; -1 leaves the system's.
        "receive.buffer.bytes" => receive_buffer_bytes: i32 = 65_536, check at_least!(-1);
        /// How the connection is secured. Only `PLAINTEXT` so far.
        "security.protocol" => security_protocol: String = "PLAINTEXT".to_owned(),
            check |value| if value == "PLAINTEXT" { Ok(()) } else { Err("only PLAINTEXT is supported".into()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known_one() {
        let error = ClientConfig::default().set("request.timeout", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration: unknown setting request.timeout; did you mean request.timeout.ms?"
        );
        let error = ClientConfig::default().set("zzz", "1").unwrap_err();
        assert_eq!(error.to_string(), "configuration: unknown setting zzz");
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_what_is_allowed() {
        let error = ClientConfig::from_properties([("request.timeout.ms", "0")]).unwrap_err();
        assert_eq!(error.to_string(), "configuration: request.timeout.ms=0: must be at least 1");
        let error = ClientConfig::from_properties([("request.timeout.ms", "soon")]).unwrap_err();
        assert!(error.to_string().contains("must be a whole number"), "{error}");
        let error = ClientConfig::from_properties([("security.protocol", "SSL")]).unwrap_err();
        assert!(error.to_string().contains("only PLAINTEXT"), "{error}");
    }

    #[test]
    fn builder_methods_and_names_set_the_same_fields() {
        let built = ClientConfig::default().client_id("a").retry_backoff_ms(5);
        let parsed = ClientConfig::from_properties([("client.id", "a"), ("retry.backoff.ms", "5")]).unwrap();
        assert_eq!(format!("{built:?}"), format!("{parsed:?}"));
    }
}
