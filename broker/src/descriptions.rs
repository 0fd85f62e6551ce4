//! What settings are for, in a sentence each, as DescribeConfigs tells it to who asks for documentation; of those that do nothing here, just that.
//!
//! All texts are part of the program: none is copied or kept for an answer.

mod broker;
mod group;
mod topic;

use crate::effects::DYNAMIC_WITHOUT_EFFECT;
use crate::metadata::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};

const WITHOUT_EFFECT: &str =
    "Known from Apache Kafka and taken, so that files written for it can be used. No effect in this broker.";
const DYNAMIC: &str = "Known from Apache Kafka and taken, also while the broker runs, so that tools which set it go on. No effect in this broker.";

/// What the setting of that name is for, of resources of that type; `None` if there is no such setting.
pub(crate) fn describe(resource_type: i8, name: &str) -> Option<&'static str> {
    match resource_type {
        RESOURCE_TOPIC => find(topic::TOPIC, name),
        RESOURCE_GROUP => find(group::GROUP, name),
        RESOURCE_BROKER => Some(match find(broker::BROKER, name) {
            Some(text) => text,
            None if DYNAMIC_WITHOUT_EFFECT.binary_search(&name).is_ok() => DYNAMIC,
            None => WITHOUT_EFFECT,
        }),
        _ => None,
    }
}

fn find(texts: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    let index = texts.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(texts[index].1)
}

#[cfg(test)]
mod tests {
    use storage::log::TOPIC_CONFIGS;

    use super::*;
    use crate::config::TOPIC_DEFAULTS;
    use crate::effects::{REFUSED, TOPIC_WITHOUT_EFFECT, WITH_EFFECT};
    use crate::handlers::describe_configs::GROUP_SETTINGS;
    use crate::properties::PROPERTIES;

    fn says_it_does_nothing(text: &str) -> bool {
        text.contains("No effect ")
    }

    #[test]
    fn every_setting_of_topics_and_groups_has_a_text_and_no_other_has() {
        let names = |texts: &[(&'static str, &str)]| texts.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(topic::TOPIC), TOPIC_CONFIGS.iter().map(|known| known.name).collect::<Vec<_>>());
        assert_eq!(names(group::GROUP), GROUP_SETTINGS.iter().map(|known| known.0).collect::<Vec<_>>());
        assert_eq!(describe(RESOURCE_TOPIC, "no.such.setting"), None);
    }

    #[test]
    fn texts_say_of_what_does_nothing_that_it_does_nothing() {
        for (name, text) in topic::TOPIC {
            assert_eq!(says_it_does_nothing(text), TOPIC_WITHOUT_EFFECT.contains(name), "{name}");
        }
        let default_of = |name: &str| {
            TOPIC_DEFAULTS
                .iter()
                .find(|(_, list)| list.iter().any(|(property, _)| *property == name))
                .map(|(of, _)| *of)
        };
        // What `millstream broker` reads of the listeners, the broker itself does not.
        let read_at_start = ["controller.listener.names", "listener.security.protocol.map"];
        for (name, ..) in PROPERTIES {
            let has_effect = WITH_EFFECT.binary_search(name).is_ok()
                || REFUSED.binary_search(name).is_ok()
                || read_at_start.contains(name)
                || default_of(name).is_some_and(|of| !TOPIC_WITHOUT_EFFECT.contains(&of));
            let text = describe(RESOURCE_BROKER, name).unwrap();
            assert_eq!(says_it_does_nothing(text), !has_effect, "{name}: {text}");
        }
        assert!(broker::BROKER.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(broker::BROKER.iter().all(|(name, _)| PROPERTIES.iter().any(|(known, ..)| known == name)));
    }
}
