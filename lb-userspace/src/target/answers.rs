//! What the names of targets have answered, and how that is laid beside the targets
//! of the file. Kept over a restart, in case DNS is away then; see `kept`.
//!
//! An address that leaves the answers is drained as if it had been deregistered, and
//! one that comes back before its deadline goes on. A name that does not answer keeps
//! the targets that it had.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::member::Drain;
use super::said::Wanted;
use crate::config::{Question, TargetGroup, TargetName, check_target};

/// Of the file's shape; another is another version's file.
const VERSION: u32 = 1;

/// Of all groups, by their names; the content of `answers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answers {
    version: u32,
    target_groups: BTreeMap<String, Answered>,
}

/// What the names of one group have answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    /// As they are printed.
    names: BTreeMap<String, Name>,
    /// Addresses that no name has any more, until their deadlines.
    leaving: BTreeMap<SocketAddr, Leaving>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    /// Addresses and their weights; `None`: it has never answered.
    targets: Option<BTreeMap<SocketAddr, u32>>,
    /// Why the last lookup has failed.
    #[serde(skip)]
    failure: Option<String>,
    /// Since the daemon's start.
    #[serde(skip)]
    has_answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leaving {
    weight: u32,
    /// In seconds since 1970.
    until: u64,
}

/// How a name is doing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NameStatus {
    pub(crate) name: String,
    /// How many targets it has.
    pub(crate) targets: usize,
    /// Why its last lookup has failed; empty before the first, too.
    pub(crate) failure: Option<String>,
    /// Whether it has answered since the daemon's start; else its targets are kept ones.
    pub(crate) has_answered: bool,
}

/// What another answer has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) come: Vec<SocketAddr>,
    pub(super) gone: Vec<SocketAddr>,
    /// The lookup before has failed.
    pub(super) has_recovered: bool,
}

impl Difference {
    /// Whether it is worth a word.
    pub(super) fn is_news(&self) -> bool {
        self.has_recovered || !self.come.is_empty() || !self.gone.is_empty()
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            version: VERSION,
            target_groups: BTreeMap::new(),
        }
    }
}

impl Answers {
    /// Reads the file's content; the error is a sentence.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let answers: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match answers.version {
            VERSION => Ok(answers),
            other => Err(format!(
                "it is of version {other}, this is version {VERSION}"
            )),
        }
    }

    /// The file's content.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Lets go of names that the configuration does not have any more, and gives the
    /// others the weights that it says now.
    pub(super) fn fit<'a>(&mut self, groups: impl Iterator<Item = &'a TargetGroup>) {
        let mut kept = std::mem::take(&mut self.target_groups);
        for config in groups {
            if let Some(mut group) = kept.remove(&config.name) {
                group.fit(config);
                self.target_groups.insert(config.name.clone(), group);
            }
        }
    }

    /// A name has answered; who has left is drained until `until`.
    pub(super) fn answered(
        &mut self,
        group: &str,
        question: &Question,
        targets: BTreeMap<SocketAddr, u32>,
        until: u64,
    ) -> Difference {
        let group = self.target_groups.entry(group.to_owned()).or_default();
        let name = group.names.entry(question.to_string()).or_default();
        let has_recovered = name.failure.take().is_some();
        name.has_answered = true;
        let before = name.targets.replace(targets.clone()).unwrap_or_default();
        group
            .leaving
            .retain(|address, _| !targets.contains_key(address));
        for (address, weight) in &before {
            if !group.has(address) {
                let leaving = Leaving {
                    weight: *weight,
                    until,
                };
                group.leaving.insert(*address, leaving);
            }
        }
        let missing = |of: &BTreeMap<SocketAddr, u32>, from: &BTreeMap<SocketAddr, u32>| {
            let missing = of.keys().filter(|address| !from.contains_key(address));
            missing.copied().collect()
        };
        Difference {
            come: missing(&targets, &before),
            gone: missing(&before, &targets),
            has_recovered,
        }
    }

    /// A name has not answered; whether it had until now.
    pub(super) fn failed(&mut self, group: &str, question: &Question, failure: String) -> bool {
        let group = self.target_groups.entry(group.to_owned()).or_default();
        let name = group.names.entry(question.to_string()).or_default();
        name.failure.replace(failure).is_none()
    }

    /// The targets of a group before anything was said: those of the file in its
    /// order, those of its names, and those that are leaving.
    pub(super) fn listed(&self, config: &TargetGroup, now: u64) -> Vec<Wanted> {
        let in_file = |address| config.targets.iter().any(|one| one.address == address);
        let mut listed: Vec<Wanted> = config
            .targets
            .iter()
            .map(|one| Wanted {
                address: one.address,
                weight: one.weight,
                drain: None,
            })
            .collect();
        let Some(group) = self.target_groups.get(&config.name) else {
            return listed;
        };
        let present = group.present().into_iter();
        let present = present.map(|(address, weight)| (address, weight, None));
        let leaving = group.leaving.iter().filter(|(_, one)| one.until > now);
        let leaving = leaving.map(|(address, one)| (*address, one.weight, Some(one.drain())));
        let mut named: Vec<Wanted> = present
            .chain(leaving)
            .filter(|(address, _, _)| !in_file(*address))
            .map(|(address, weight, drain)| Wanted {
                address,
                weight,
                drain,
            })
            .collect();
        // Who starts to leave keeps its place.
        named.sort_by_key(|one| one.address);
        listed.append(&mut named);
        listed
    }

    /// Takes out who is to have left by now.
    pub(super) fn take_overdue(&mut self, group: &str, now: u64) -> Vec<(SocketAddr, Drain)> {
        let Some(group) = self.target_groups.get_mut(group) else {
            return Vec::new();
        };
        let overdue = group.leaving.iter().filter(|(_, one)| one.until <= now);
        let overdue: Vec<_> = overdue
            .map(|(address, one)| (*address, one.drain()))
            .collect();
        for (address, _) in &overdue {
            group.leaving.remove(address);
        }
        overdue
    }

    /// Whether all that DNS knows of a group is known.
    pub(super) fn is_complete(&self, config: &TargetGroup) -> bool {
        let group = self.target_groups.get(&config.name);
        let name = |question: &Question| group?.names.get(&question.to_string());
        let mut names = config.names.iter().map(|one| name(&one.question));
        names.all(|name| name.is_some_and(|name| name.targets.is_some()))
    }

    /// The addresses that a name has.
    pub(super) fn known(&self, group: &str, question: &Question) -> Vec<SocketAddr> {
        let group = self.target_groups.get(group);
        let name = group.and_then(|group| group.names.get(&question.to_string()));
        let targets = name.and_then(|name| name.targets.as_ref());
        targets.map_or_else(Vec::new, |targets| targets.keys().copied().collect())
    }

    /// Each name of a group.
    pub(super) fn status(&self, config: &TargetGroup) -> Vec<NameStatus> {
        let group = self.target_groups.get(&config.name);
        let of = |question: &Question| {
            let name = question.to_string();
            let known = group.and_then(|group| group.names.get(&name));
            let targets = known.and_then(|known| known.targets.as_ref());
            NameStatus {
                name,
                targets: targets.map_or(0, BTreeMap::len),
                failure: known.and_then(|known| known.failure.clone()),
                has_answered: known.is_some_and(|known| known.has_answered),
            }
        };
        config.names.iter().map(|one| of(&one.question)).collect()
    }
}

impl Answered {
    fn fit(&mut self, config: &TargetGroup) {
        let names = config.names.iter();
        let of_config: BTreeMap<String, &TargetName> =
            names.map(|one| (one.question.to_string(), one)).collect();
        self.names.retain(|name, _| of_config.contains_key(name));
        for (name, answered) in &mut self.names {
            let Some(targets) = &mut answered.targets else {
                continue;
            };
            targets.retain(|address, _| check_target(*address).is_ok());
            if let Some(config) = of_config.get(name)
                && matches!(config.question, Question::Host { .. })
            {
                targets
                    .values_mut()
                    .for_each(|weight| *weight = config.weight);
            }
        }
    }

    fn has(&self, address: &SocketAddr) -> bool {
        let mut all = self.names.values().filter_map(|name| name.targets.as_ref());
        all.any(|targets| targets.contains_key(address))
    }

    /// Who has several names has the largest of their weights.
    fn present(&self) -> BTreeMap<SocketAddr, u32> {
        let mut present = BTreeMap::new();
        for name in self.names.values() {
            for (address, weight) in name.targets.iter().flatten() {
                let entry = present.entry(*address).or_insert(*weight);
                *entry = (*entry).max(*weight);
            }
        }
        present
    }
}

impl Leaving {
    fn drain(self) -> Drain {
        Drain {
            until: self.until,
            leave: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TargetConfig;

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    fn question(name: &str) -> Question {
        let (name, port) = (name.to_owned(), 80);
        Question::Host { name, port }
    }

    /// Target 1 stands in the file, beside the names a and b.
    fn config() -> TargetGroup {
        let names = ["a", "b"].map(|name| TargetName {
            question: question(name),
            weight: 1,
        });
        TargetGroup {
            targets: vec![TargetConfig {
                address: address(1),
                weight: 5,
            }],
            names: names.to_vec(),
            ..TargetGroup::with_defaults("chat")
        }
    }

    fn answer(answers: &mut Answers, name: &str, numbers: &[u8], until: u64) -> Difference {
        let targets = numbers.iter().map(|number| (address(*number), 1)).collect();
        answers.answered("chat", &question(name), targets, until)
    }

    fn listed(answers: &Answers, now: u64) -> Vec<(SocketAddr, u32, Option<u64>)> {
        let listed = answers.listed(&config(), now).into_iter();
        let until = |one: Wanted| (one.address, one.weight, one.drain.map(|drain| drain.until));
        listed.map(until).collect()
    }

    #[test]
    fn who_leaves_the_answers_is_drained_and_may_come_back() {
        let mut answers = Answers::default();
        answer(&mut answers, "a", &[3, 2], 100);
        let (one, two, three) = (address(1), address(2), address(3));
        let all = [(one, 5, None), (two, 1, None), (three, 1, None)];
        assert_eq!(listed(&answers, 0), all);
        let difference = answer(&mut answers, "a", &[3, 4], 200);
        assert_eq!(
            (difference.come, difference.gone),
            (vec![address(4)], vec![two])
        );
        let leaving = [
            (one, 5, None),
            (two, 1, Some(200)),
            (three, 1, None),
            (address(4), 1, None),
        ];
        assert_eq!(listed(&answers, 199), leaving);
        assert_eq!(listed(&answers, 200).len(), 3);
        answer(&mut answers, "a", &[2, 3], 300);
        assert_eq!(listed(&answers, 299)[..3], all);
        let drain = Drain {
            until: 300,
            leave: true,
        };
        assert_eq!(answers.take_overdue("chat", 299), []);
        assert_eq!(answers.take_overdue("chat", 300), [(address(4), drain)]);
        assert_eq!(answers.take_overdue("chat", 300), []);
    }

    #[test]
    fn who_has_another_name_stays_and_the_files_word_on_its_targets_counts() {
        let mut answers = Answers::default();
        answer(&mut answers, "a", &[1, 2], 100);
        answer(&mut answers, "b", &[2], 100);
        answer(&mut answers, "a", &[], 100);
        let (one, two) = (address(1), address(2));
        assert_eq!(listed(&answers, 0), [(one, 5, None), (two, 1, None)]);
    }

    #[test]
    fn what_was_kept_fits_the_configuration_of_now() {
        let mut answers = Answers::default();
        answer(&mut answers, "a", &[2, 3], 100);
        answer(&mut answers, "a", &[2], 200);
        answer(&mut answers, "gone", &[4], 100);
        let bytes = answers.to_bytes().expect("bytes");
        let mut kept = Answers::parse(&bytes).expect("answers");
        let mut config = config();
        config.names[0].weight = 9;
        kept.fit([&config].into_iter());
        let expected = [
            (address(1), 5, None),
            (address(2), 9, None),
            (address(3), 1, Some(200)),
        ];
        assert_eq!(listed(&kept, 0), expected);
        let status = kept.status(&config);
        assert_eq!((status[0].targets, status[0].has_answered), (1, false));
        assert!(!kept.is_complete(&config));
        // Another answer drains who has left meanwhile.
        let difference = answer(&mut kept, "a", &[5], 300);
        assert_eq!(difference.gone, [address(2)]);
        kept.fit(std::iter::empty());
        assert_eq!(kept, Answers::default());
    }

    #[test]
    fn cut_at_every_byte_they_are_damaged_never_half_believed() {
        let mut answers = Answers::default();
        answer(&mut answers, "a", &[2, 3], 100);
        answer(&mut answers, "a", &[2], 100);
        let whole = answers.to_bytes().expect("bytes");
        for length in 0..whole.len() - 1 {
            assert!(Answers::parse(&whole[..length]).is_err(), "{length} bytes");
        }
        let other = br#"{"version":2,"target_groups":{}}"#;
        assert!(Answers::parse(other).is_err_and(|error| error.contains("version 2")));
    }

    #[test]
    fn a_failure_keeps_the_targets() {
        let mut answers = Answers::default();
        assert!(!answers.is_complete(&config()));
        answer(&mut answers, "a", &[2], 100);
        answer(&mut answers, "b", &[], 100);
        assert!(answers.is_complete(&config()));
        assert!(answers.failed("chat", &question("a"), "timeout".to_owned()));
        assert!(!answers.failed("chat", &question("a"), "timeout".to_owned()));
        assert_eq!(listed(&answers, 0).len(), 2);
        let status = answers.status(&config());
        assert_eq!(status[0].failure.as_deref(), Some("timeout"));
        assert_eq!((status[0].targets, status[1].targets), (1, 0));
        assert!(answer(&mut answers, "a", &[2], 100).has_recovered);
    }
}
