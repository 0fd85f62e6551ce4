//! Files and folders of the simulated disk: what is durable, what is not yet, and what a crash leaves.

use std::collections::BTreeMap;

use base::{Rng, Timestamp};

pub(super) type NodeId = u64;

/// Unit in which a torn write tears.
const SECTOR: usize = 512;

pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { position, bytes } => {
                let end = position + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*position..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }
}

#[derive(Default)]
pub(super) struct FileNode {
    pub(super) content: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) changes: Vec<Change>,
    pub(super) modified_ms: Timestamp,
    pub(super) locked_by: Option<u64>,
}

impl FileNode {
    /// What is left of the file. The four outcomes are those seen on real disks.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.locked_by = None;
        let changes = std::mem::take(&mut self.changes);
        let mut content = std::mem::take(&mut self.durable);
        match rng.below(4) {
            // Nothing reached the disk.
            0 => {}
            // Everything did.
            1 => changes.iter().for_each(|change| change.apply(&mut content)),
            // The first few, the last of them in part.
            2 => {
                let kept = rng.below(changes.len() as u64 + 1) as usize;
                changes[..kept].iter().for_each(|change| change.apply(&mut content));
                if let Some(Change::Write { position, bytes }) = changes.get(kept) {
                    let part = rng.below(bytes.len() as u64 + 1) as usize;
                    Change::Write { position: *position, bytes: bytes[..part].to_vec() }.apply(&mut content);
                }
            }
            // The size, but not every sector.
            _ => {
                for change in &changes {
                    match change {
                        Change::SetLen(_) => change.apply(&mut content),
                        Change::Write { position, bytes } => {
                            let end = position + bytes.len();
                            if content.len() < end {
                                content.resize(end, 0);
                            }
                            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                                if rng.chance(1, 2) {
                                    let at = position + index * SECTOR;
                                    content[at..at + sector.len()].copy_from_slice(sector);
                                }
                            }
                        }
                    }
                }
            }
        }
        self.durable.clone_from(&content);
        self.content = content;
    }
}

pub(super) enum NameChange {
    Set(String, NodeId),
    Remove(String),
    Rename { from: String, to: String, node: NodeId },
}

#[derive(Default)]
pub(super) struct FolderNode {
    pub(super) names: BTreeMap<String, NodeId>,
    pub(super) durable: BTreeMap<String, NodeId>,
    pub(super) changes: Vec<NameChange>,
    pub(super) modified_ms: Timestamp,
}

impl FolderNode {
    pub(super) fn set(&mut self, name: &str, node: NodeId) {
        self.names.insert(name.to_owned(), node);
        self.changes.push(NameChange::Set(name.to_owned(), node));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, node: NodeId) {
        self.names.remove(from);
        self.names.insert(to.to_owned(), node);
        self.changes.push(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), node });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.changes.push(NameChange::Remove(name.to_owned()));
    }

    /// What is left of the names.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.below(self.changes.len() as u64 + 1) as usize;
        for change in self.changes.drain(..).take(kept) {
            match change {
                NameChange::Set(name, node) => {
                    self.durable.insert(name, node);
                }
                NameChange::Remove(name) => {
                    self.durable.remove(&name);
                }
                NameChange::Rename { from, to, node } => {
                    self.durable.remove(&from);
                    self.durable.insert(to, node);
                }
            }
        }
        self.names = self.durable.clone();
    }
}

pub(super) enum Node {
    File(FileNode),
    Folder(FolderNode),
}
