//! Access control entries as KRaft keeps them, and the filters that find them. They are kept and shown; since there is no
//! authentication here, every client is `User:ANONYMOUS`, which must be a super user for entries to be taken at all.

use uuid::Uuid;

use super::fields::{Reader, Writer};

const ANY: i8 = 1;
const MATCH: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const CLUSTER: i8 = 4;
const RESOURCE_TYPE_MAX: i8 = 7;
const OPERATION_MAX: i8 = 15;
const PERMISSION_MAX: i8 = 3;

/// `AccessControlEntryRecord`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessControlEntry {
    /// Identity; what it says may be there only once all the same.
    pub id: Uuid,
    /// What it says.
    pub rule: AccessRule,
}

/// Who may, or may not, do what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessRule {
    /// Kafka's number: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user.
    pub resource_type: i8,
    /// Name, or how names begin.
    pub resource_name: String,
    /// 3 literal, 4 prefixed.
    pub pattern_type: i8,
    /// As `User:alice`.
    pub principal: String,
    /// Address, or `*`.
    pub host: String,
    /// Kafka's number.
    pub operation: i8,
    /// 2 deny, 3 allow.
    pub permission: i8,
}

/// Which rules are meant; nothing given means any.
#[derive(Clone, Debug)]
pub struct AccessFilter {
    /// 1 for any.
    pub resource_type: i8,
    /// Name.
    pub resource_name: Option<String>,
    /// 1 for any, 2 for all that apply to the name.
    pub pattern_type: i8,
    /// Principal.
    pub principal: Option<String>,
    /// Host.
    pub host: Option<String>,
    /// 1 for any.
    pub operation: i8,
    /// 1 for any.
    pub permission: i8,
}

impl AccessRule {
    /// Why Kafka does not take such a rule.
    ///
    /// # Errors
    /// Its message.
    pub fn check(&self) -> Result<(), String> {
        if !(ANY + 1..=RESOURCE_TYPE_MAX).contains(&self.resource_type) {
            return Err(format!("Invalid resourceType {}", self.resource_type));
        }
        if self.resource_type == CLUSTER && self.resource_name != "kafka-cluster" {
            return Err("The only valid name for the CLUSTER resource is kafka-cluster".to_owned());
        }
        if self.resource_name.is_empty() {
            return Err("Invalid empty resource name".to_owned());
        }
        if !matches!(self.pattern_type, LITERAL | PREFIXED) {
            return Err(format!("Invalid patternType {}", self.pattern_type));
        }
        if !(ANY + 1..=OPERATION_MAX).contains(&self.operation) {
            return Err(format!("Invalid operation {}", self.operation));
        }
        if !(ANY + 1..=PERMISSION_MAX).contains(&self.permission) {
            return Err(format!("Invalid permissionType {}", self.permission));
        }
        if self.principal.split_once(':').is_none_or(|(kind, _)| kind.is_empty()) {
            return Err(format!("Could not parse principal from `{}`", self.principal));
        }
        Ok(())
    }
}

impl AccessFilter {
    /// Why Kafka does not take such a filter.
    ///
    /// # Errors
    /// Its message.
    pub fn check(&self) -> Result<(), String> {
        let is_known =
            (ANY..=RESOURCE_TYPE_MAX).contains(&self.resource_type) && (ANY..=PREFIXED).contains(&self.pattern_type);
        if !is_known {
            return Err("Unknown patternFilter.".to_owned());
        }
        if !(ANY..=OPERATION_MAX).contains(&self.operation) || !(ANY..=PERMISSION_MAX).contains(&self.permission) {
            return Err("Unknown entryFilter.".to_owned());
        }
        Ok(())
    }

    /// Whether `rule` is meant.
    pub fn matches(&self, rule: &AccessRule) -> bool {
        let any_or = |wanted: i8, is: i8| wanted == ANY || wanted == is;
        let none_or = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        any_or(self.resource_type, rule.resource_type)
            && (any_or(self.pattern_type, rule.pattern_type) || self.pattern_type == MATCH)
            && self.resource_name.as_deref().is_none_or(|name| self.names(rule, name))
            && none_or(&self.principal, &rule.principal)
            && none_or(&self.host, &rule.host)
            && any_or(self.operation, rule.operation)
            && any_or(self.permission, rule.permission)
    }

    fn names(&self, rule: &AccessRule, name: &str) -> bool {
        if self.pattern_type != MATCH {
            return rule.resource_name == name;
        }
        match rule.pattern_type {
            PREFIXED => name.starts_with(&rule.resource_name),
            _ => rule.resource_name == name || rule.resource_name == "*",
        }
    }
}

impl Writer {
    pub(super) fn access_control_entry(&mut self, entry: &AccessControlEntry) {
        let rule = &entry.rule;
        self.uuid(entry.id);
        self.i8(rule.resource_type);
        self.string(&rule.resource_name);
        self.i8(rule.pattern_type);
        self.string(&rule.principal);
        self.string(&rule.host);
        self.i8(rule.operation);
        self.i8(rule.permission);
        self.unsigned(0);
    }
}

impl Reader<'_> {
    pub(super) fn access_control_entry(&mut self) -> Option<AccessControlEntry> {
        let id = self.uuid()?;
        let rule = AccessRule {
            resource_type: self.i8()?,
            resource_name: self.string()?,
            pattern_type: self.i8()?,
            principal: self.string()?,
            host: self.string()?,
            operation: self.i8()?,
            permission: self.i8()?,
        };
        Some(AccessControlEntry { id, rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, pattern_type: i8) -> AccessRule {
        AccessRule {
            resource_type: 2,
            resource_name: name.into(),
            pattern_type,
            principal: "User:alice".into(),
            host: "*".into(),
            operation: 3,
            permission: 3,
        }
    }

    fn filter(name: Option<&str>, pattern_type: i8) -> AccessFilter {
        AccessFilter {
            resource_type: ANY,
            resource_name: name.map(str::to_owned),
            pattern_type,
            principal: None,
            host: None,
            operation: ANY,
            permission: ANY,
        }
    }

    #[test]
    fn a_filter_finds_what_kafka_would_find() {
        let rules = [rule("orders", LITERAL), rule("ord", PREFIXED), rule("*", LITERAL), rule("orders", PREFIXED)];
        let found = |filter: AccessFilter| rules.iter().map(|rule| filter.matches(rule)).collect::<Vec<_>>();
        assert_eq!(found(filter(None, ANY)), [true; 4]);
        assert_eq!(found(filter(Some("orders"), LITERAL)), [true, false, false, false]);
        assert_eq!(found(filter(Some("orders"), ANY)), [true, false, false, true]);
        assert_eq!(found(filter(Some("orders"), MATCH)), [true; 4]);
        assert_eq!(found(filter(Some("ordinary"), MATCH)), [false, true, true, false]);
        let bob = AccessFilter { principal: Some("User:bob".into()), ..filter(None, ANY) };
        assert_eq!(found(bob), [false; 4]);
    }

    #[test]
    fn rules_that_kafka_refuses_are_refused() {
        assert_eq!(rule("orders", LITERAL).check(), Ok(()));
        assert!(rule("", LITERAL).check().is_err());
        assert!(rule("orders", MATCH).check().is_err());
        assert!(AccessRule { operation: ANY, ..rule("t", LITERAL) }.check().is_err());
        assert!(AccessRule { resource_type: CLUSTER, ..rule("t", LITERAL) }.check().is_err());
        assert!(AccessRule { principal: "alice".into(), ..rule("t", LITERAL) }.check().is_err());
    }
}
