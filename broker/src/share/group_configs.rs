//! The settings of share groups as they are in effect, kept until something is set: every share fetch asks for those of its group.
//!
//! Invariant: what is answered follows from the image that was asked with, whatever was kept before.

use std::sync::Arc;

use base::hash::HashMap;
use parking_lot::RwLock;

use super::config::ShareConfig;
use crate::dynamic;
use crate::metadata::{AllSettings, MetadataImage, RESOURCE_GROUP};

/// See the module.
#[derive(Default)]
pub(super) struct GroupConfigs(RwLock<Option<Kept>>);

struct Kept {
    /// What was set: another `Arc` says that it may have changed, and holding this one keeps its address from being used again.
    settings: Arc<AllSettings>,
    /// Of groups for which nothing is set.
    others: ShareConfig,
    /// Of groups for which something is set.
    own: HashMap<String, ShareConfig>,
}

impl GroupConfigs {
    /// The settings of `group` after `image`: those of the broker (`config`), with what is set for all groups and for this one.
    pub fn of(&self, group: &str, config: &ShareConfig, node_id: i32, image: &MetadataImage) -> ShareConfig {
        if let Some(kept) = &*self.0.read()
            && Arc::ptr_eq(&kept.settings, image.all_settings())
        {
            return kept.of(group);
        }
        let kept = Kept::after(config, node_id, image);
        let config = kept.of(group);
        *self.0.write() = Some(kept);
        config
    }
}

impl Kept {
    fn after(config: &ShareConfig, node_id: i32, image: &MetadataImage) -> Self {
        let of = |group: &str| config.with_settings(&dynamic::group_settings(image, node_id, group));
        Self {
            settings: Arc::clone(image.all_settings()),
            others: of(""),
            own: image.resources_with_settings(RESOURCE_GROUP).map(|group| (group.to_owned(), of(group))).collect(),
        }
    }

    fn of(&self, group: &str) -> ShareConfig {
        self.own.get(group).unwrap_or(&self.others).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::RESOURCE_BROKER;
    use crate::metadata::records::MetadataRecord;

    fn set(image: &MetadataImage, resource_type: i8, resource: &str, name: &str, value: Option<&str>) -> MetadataImage {
        let mut next = image.clone();
        let record = MetadataRecord::Config {
            resource_type,
            resource_name: resource.to_owned(),
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        next.apply(&record).unwrap();
        next
    }

    #[test]
    fn what_is_set_holds_from_the_image_that_has_it_on() {
        let (configs, config, plain) = (GroupConfigs::default(), ShareConfig::default(), MetadataImage::default());
        let intervals =
            |image: &MetadataImage| ["a", "b"].map(|group| configs.of(group, &config, 1, image).assignment_interval.ms);
        assert_eq!(intervals(&plain), [1_000, 1_000]);
        let name = "share.assignment.interval.ms";
        let own = set(&plain, RESOURCE_GROUP, "a", name, Some("7"));
        assert_eq!(intervals(&own), [7, 1_000]);
        let all = set(&own, RESOURCE_BROKER, "", &format!("group.{name}"), Some("9"));
        assert_eq!(intervals(&all), [7, 9]);
        let gone = set(&all, RESOURCE_GROUP, "a", name, None);
        assert_eq!(intervals(&gone), [9, 9]);
        assert_eq!(intervals(&own), [7, 1_000], "asked with an image from before");
        assert!(Arc::ptr_eq(gone.all_settings(), gone.clone().all_settings()), "no change, nothing to make anew");
    }
}
