//! Where a broker listens and where clients are told to come: from options, or from Kafka's properties `listeners`, `advertised.listeners`,
//! `listener.security.protocol.map` and `controller.listener.names`.
//!
//! A listener has a name (upper case), an address to bind and perhaps one to advertise: who came in through it is told of that address in
//! every answer that names this broker. Controllers' listeners are left out: this broker has no controller to talk to.

use std::collections::BTreeMap;

use crate::options::address;
use crate::report::Failure;

/// The name of a listener that was given none.
const PLAINTEXT: &str = "PLAINTEXT";

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    pub name: String,
    /// `HOST:PORT` to bind.
    pub bind: String,
    /// What clients are told, if it is not the address that is bound.
    pub advertised: Option<(String, u16)>,
}

/// What was said of listeners: the options first, else the properties.
#[derive(Default)]
pub struct Said<'a> {
    /// Each `--listen`.
    pub listen: &'a [String],
    /// Each `--advertise`.
    pub advertise: &'a [String],
    /// `listeners`.
    pub listeners: Option<&'a str>,
    /// `advertised.listeners`.
    pub advertised_listeners: Option<&'a str>,
    /// `listener.security.protocol.map`.
    pub protocols: Option<&'a str>,
    /// `controller.listener.names`.
    pub controllers: Option<&'a str>,
}

/// The listeners that were asked for, in the order given.
///
/// # Errors
/// None at all, an address that is none, a name twice, an advertised name that nobody listens under, or a protocol other than PLAINTEXT.
pub fn listeners(said: &Said<'_>) -> Result<Vec<ListenerSpec>, Failure> {
    let (source, given) = source(said)?;
    let controllers: Vec<String> = entries(said.controllers).map(str::to_uppercase).collect();
    let mut specs: Vec<ListenerSpec> = Vec::new();
    for (index, entry) in given.iter().enumerate() {
        let (name, place) = named(entry);
        // Without a name the first is PLAINTEXT, the others are numbered.
        let name = name.unwrap_or_else(|| match index {
            0 => PLAINTEXT.to_owned(),
            _ => format!("{PLAINTEXT}_{}", index + 1),
        });
        if controllers.contains(&name) {
            continue;
        }
        if specs.iter().any(|known| known.name == name) {
            return Err(Failure::usage(format!("{source} {entry}: there is a listener {name} already"))
                .hint("give each a name of its own, as EXTERNAL://0.0.0.0:9094"));
        }
        // Kafka's way to say "all interfaces" is an empty host.
        let bind =
            if source == "listeners" && place.starts_with(':') { format!("0.0.0.0{place}") } else { place.to_owned() };
        address(source, &bind)?;
        plaintext(&name, said.protocols)?;
        specs.push(ListenerSpec { name, bind, advertised: None });
    }
    if specs.is_empty() {
        return Err(Failure::usage("all listeners are controllers': there is none for clients")
            .hint("name one in `listeners` that is not in controller.listener.names"));
    }
    advertise(&mut specs, said, &controllers)?;
    Ok(specs)
}

/// Where the listeners are named, and as what.
fn source<'a>(said: &Said<'a>) -> Result<(&'static str, Vec<&'a str>), Failure> {
    if !said.listen.is_empty() {
        return Ok(("--listen", said.listen.iter().map(String::as_str).collect()));
    }
    let given: Vec<&str> = entries(said.listeners).collect();
    if given.is_empty() {
        return Err(Failure::usage("where should the broker listen?")
            .hint("give --listen HOST:PORT, or --config FILE with `listeners` in it"));
    }
    Ok(("listeners", given))
}

fn advertise(specs: &mut [ListenerSpec], said: &Said<'_>, controllers: &[String]) -> Result<(), Failure> {
    let (source, given): (_, Vec<&str>) = match said.advertise {
        // An address for clients goes with the listener it was written for, not with another one.
        [] if said.listen.is_empty() => ("advertised.listeners", entries(said.advertised_listeners).collect()),
        given => ("--advertise", given.iter().map(String::as_str).collect()),
    };
    let known = specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    for (index, entry) in given.iter().enumerate() {
        let (name, place) = named(entry);
        if name.as_ref().is_some_and(|name| controllers.contains(name)) {
            continue;
        }
        let spec = match &name {
            Some(name) => specs.iter_mut().find(|spec| spec.name == *name),
            None => specs.get_mut(index),
        };
        let Some(spec) = spec else {
            return Err(Failure::usage(format!("{source} {entry}: no listener is meant by that"))
                .hint(&format!("the listeners are {known}; write NAME://HOST:PORT")));
        };
        let (host, port) = address(source, place)?;
        spec.advertised = Some((host.to_owned(), port));
    }
    Ok(())
}

/// `NAME://HOST:PORT` in its two parts; the name in upper case.
fn named(entry: &str) -> (Option<String>, &str) {
    match entry.split_once("://") {
        Some((name, place)) => (Some(name.trim().to_uppercase()), place),
        None => (None, entry),
    }
}

fn entries(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Refuses listeners that are to be secured.
fn plaintext(name: &str, protocols: Option<&str>) -> Result<(), Failure> {
    let protocols: BTreeMap<String, String> = entries(protocols)
        .filter_map(|entry| entry.split_once(':'))
        .map(|(name, protocol)| (name.trim().to_uppercase(), protocol.trim().to_uppercase()))
        .collect();
    let protocol = match (protocols.get(name), name) {
        (Some(protocol), _) => protocol.as_str(),
        (None, "SSL" | "SASL_PLAINTEXT" | "SASL_SSL") => name,
        _ => PLAINTEXT,
    };
    if protocol == PLAINTEXT {
        return Ok(());
    }
    Err(Failure::usage(format!("listener {name} asks for {protocol}, which this broker does not have"))
        .hint("make it PLAINTEXT, on an address that only trusted clients reach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(given: &[&str]) -> Vec<String> {
        given.iter().map(|one| (*one).to_owned()).collect()
    }

    fn spec(name: &str, bind: &str, advertised: Option<(&str, u16)>) -> ListenerSpec {
        let advertised = advertised.map(|(host, port)| (host.to_owned(), port));
        ListenerSpec { name: name.to_owned(), bind: bind.to_owned(), advertised }
    }

    #[test]
    fn a_file_of_kafka_is_understood() {
        let said = Said {
            listeners: Some("PLAINTEXT://:9092,CONTROLLER://localhost:9093,External://10.0.0.1:9094"),
            advertised_listeners: Some("PLAINTEXT://inside:9092,EXTERNAL://outside.example:19094,CONTROLLER://x:9093"),
            protocols: Some("PLAINTEXT:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:SSL"),
            controllers: Some("CONTROLLER"),
            ..Said::default()
        };
        let expected = [
            spec("PLAINTEXT", "0.0.0.0:9092", Some(("inside", 9092))),
            spec("EXTERNAL", "10.0.0.1:9094", Some(("outside.example", 19094))),
        ];
        assert_eq!(listeners(&said).unwrap(), expected);
    }

    #[test]
    fn options_come_before_the_file_and_take_names_or_their_order() {
        let listen = strings(&["127.0.0.1:1", "WAN://127.0.0.1:2", "127.0.0.1:3"]);
        let advertise = strings(&["a:10", "WAN://b:20"]);
        let said = Said {
            listen: &listen,
            advertise: &advertise,
            listeners: Some("PLAINTEXT://:9092"),
            advertised_listeners: Some("PLAINTEXT://c:9092"),
            ..Said::default()
        };
        let expected = [
            spec("PLAINTEXT", "127.0.0.1:1", Some(("a", 10))),
            spec("WAN", "127.0.0.1:2", Some(("b", 20))),
            spec("PLAINTEXT_3", "127.0.0.1:3", None),
        ];
        assert_eq!(listeners(&said).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_is_said_with_what_to_do() {
        let refused = |said: &Said<'_>| listeners(said).unwrap_err().to_string();
        let twice = strings(&["A://127.0.0.1:1", "a://127.0.0.1:2"]);
        let stranger = strings(&["B://h:1"]);
        let one = strings(&["127.0.0.1:1"]);
        let said = [
            refused(&Said::default()),
            refused(&Said { listen: &twice, ..Said::default() }),
            refused(&Said { listen: &one, advertise: &stranger, ..Said::default() }),
            refused(&Said { listeners: Some("SASL_SSL://:9092"), ..Said::default() }),
            refused(&Said { listeners: Some("X://:1"), protocols: Some("X:SSL"), ..Said::default() }),
            refused(&Said { listeners: Some("C://:1"), controllers: Some("C"), ..Said::default() }),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        millstream: where should the broker listen?
          give --listen HOST:PORT, or --config FILE with `listeners` in it
        millstream: --listen a://127.0.0.1:2: there is a listener A already
          give each a name of its own, as EXTERNAL://0.0.0.0:9094
        millstream: --advertise B://h:1: no listener is meant by that
          the listeners are PLAINTEXT; write NAME://HOST:PORT
        millstream: listener SASL_SSL asks for SASL_SSL, which this broker does not have
          make it PLAINTEXT, on an address that only trusted clients reach
        millstream: listener X asks for SSL, which this broker does not have
          make it PLAINTEXT, on an address that only trusted clients reach
        millstream: all listeners are controllers': there is none for clients
          name one in `listeners` that is not in controller.listener.names
        ");
    }
}
