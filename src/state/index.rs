//! The index of the records: who needs which shared chains, and which tunnels are alike.
//!
//! It consists of empty files under `nodes`, so a look-up costs the same for one tunnel and for ten
//! thousand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::any_record::Record;
use super::error::RecordError;
use super::file;
use super::store::{NEW, Store, absent_is_none, below, is_any};
use super::tunnel::TunnelRecord;
use crate::daemon::Tunnel;
use crate::firewall::{
    Around, BucketMember, DispatchBucket, INTERFACES, OptionalChains, PacketPath, SharedChains, TunnelId, TunnelOrder,
    TunnelRules, are_alike, can_move,
};
use crate::netfilter::{Ruleset, Table};

/// The largest number of buckets of a path whose dispatcher a change reads: each costs iptables-nft
/// 3 µs (1.8.9).
const SHORT: usize = 256;

impl Store {
    /// The tunnels that need these shared chains.
    pub(crate) fn tunnels_at(
        &self,
        ruleset: Ruleset,
        shared_chains: &SharedChains,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let ids = self.members(&self.node_folder(ruleset, shared_chains))?;
        let entries: Result<Vec<_>, _> = ids
            .iter()
            .filter(|id| id.is_tunnel())
            .filter_map(|id| self.readable_entry(ruleset, id).transpose())
            .collect();
        Ok(entries?.into_iter().filter_map(Record::into_tunnel).collect())
    }

    /// The other recorded tunnels that the kernel cannot distinguish from this one.
    pub(crate) fn others_alike(
        &self,
        ruleset: Ruleset,
        tunnel: &Tunnel,
        id: &TunnelId,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let folder = self.alike_folder(ruleset, tunnel);
        let mut ids = absent_is_none(self.members(&folder))?.unwrap_or_default();
        ids.retain(|other| other != id);
        let mut tunnels = Vec::new();
        for id in ids {
            let record = self.entry(ruleset, &id)?.and_then(Record::into_tunnel);
            tunnels.extend(record.filter(|record| are_alike(&record.tunnel, tunnel)));
        }
        Ok(tunnels)
    }

    /// The tunnels of a connection that this peer has up and whose selectors MOBIKE can change,
    /// whatever the selectors were at `up`.
    pub(crate) fn tunnels_of_mobile_peer(
        &self,
        ruleset: Ruleset,
        call: &Tunnel,
    ) -> Result<Vec<TunnelRecord>, RecordError> {
        let folder = self.nodes_folder(ruleset).join(opener_id(call).as_str());
        let ids = absent_is_none(self.members(&folder))?.unwrap_or_default().into_iter();
        let records = ids.filter_map(|id| self.readable_entry(ruleset, &id).transpose());
        records
            .filter_map(|record| record.map(Record::into_tunnel).transpose())
            .collect()
    }

    /// What other records share with the removed and the added ones: the shared chains that both
    /// need, and the members of those chains in which the order of tunnels matters.
    pub(crate) fn shared_around(
        &self,
        ruleset: Ruleset,
        [removed, added]: [&[Record]; 2],
    ) -> Result<(BTreeSet<SharedChains>, Around), RecordError> {
        let ids: BTreeSet<_> = removed.iter().chain(added).map(Record::id).collect();
        let nodes = |records: &[Record]| -> BTreeSet<_> {
            let all = records.iter().map(Record::tunnel_rules);
            all.flat_map(TunnelRules::shared_chains).collect()
        };
        let [before, after] = [removed, added].map(nodes);
        let (mut staying, mut around) = (BTreeSet::new(), Around::default());
        // Who needs a shared part of a table needs the table's base too: that comes last.
        for shared_chains in (&before | &after).iter().rev() {
            let stays = match shared_chains.as_bucket().filter(DispatchBucket::is_ordered) {
                None if shared_chains.is_base_of_any(&staying) => true,
                None => self.is_needed(ruleset, shared_chains, &ids)?,
                Some(bucket) => {
                    let members = self.bucket_members(ruleset, bucket, &ids)?;
                    let stays = !members.is_empty();
                    around.members.insert(bucket, members);
                    stays
                }
            };
            if stays {
                staying.insert(shared_chains.clone());
            }
        }
        let fresh = after
            .iter()
            .filter(|part| !before.contains(part) && !staying.contains(part));
        let paths: BTreeSet<_> = fresh
            .filter_map(SharedChains::as_bucket)
            .map(|bucket| bucket.path)
            .collect();
        self.add_dispatchers(ruleset, &paths, &ids, &mut around)?;
        self.add_other_paths(ruleset, before.union(&after), &mut around)?;
        around.long = self.long_paths(ruleset, before.union(&after), &paths, &around.buckets);
        Ok((staying, around))
    }

    /// Adds one bucket of each path of the table that none of these shared chains is on.
    fn add_other_paths<'a>(
        &self,
        ruleset: Ruleset,
        parts: impl Iterator<Item = &'a SharedChains> + Clone,
        around: &mut Around,
    ) -> Result<(), RecordError> {
        let tables = parts.clone().filter_map(|part| match part {
            SharedChains::Base(table) => Some(*table),
            SharedChains::Interfaces
            | SharedChains::Wildcard(..)
            | SharedChains::Interface(_)
            | SharedChains::Bucket(_)
            | SharedChains::Optional(_) => None,
        });
        let own: BTreeSet<_> = parts
            .filter_map(SharedChains::as_bucket)
            .map(|bucket| bucket.path)
            .collect();
        for path in tables
            .flat_map(PacketPath::tunnel_paths)
            .filter(|path| !own.contains(path))
        {
            let mut names = file::file_names(&self.nodes_folder(ruleset).join(path.tag()))?;
            let name = names.next().transpose()?;
            around
                .buckets
                .extend(name.and_then(|name| DispatchBucket::from_name(*path, &name)));
        }
        Ok(())
    }

    /// The paths with more than [`SHORT`] buckets, of those that these shared chains belong to.
    /// `known` are all buckets of the paths `listed`, and one of each path that none of the shared
    /// chains is on.
    fn long_paths<'a>(
        &self,
        ruleset: Ruleset,
        parts: impl Iterator<Item = &'a SharedChains>,
        listed: &BTreeSet<PacketPath>,
        known: &BTreeSet<DispatchBucket>,
    ) -> BTreeSet<PacketPath> {
        let (mut paths, mut own) = (BTreeSet::new(), BTreeSet::new());
        for part in parts {
            match part {
                SharedChains::Base(table) => paths.extend(PacketPath::tunnel_paths(*table)),
                SharedChains::Bucket(bucket) => own.extend([bucket.path]),
                SharedChains::Interfaces
                | SharedChains::Wildcard(..)
                | SharedChains::Interface(_)
                | SharedChains::Optional(_) => {}
            }
        }
        // On tmpfs and most other file systems a folder has two links and one for each folder in
        // it. Where it always has one, every path is taken for short.
        let folders = |path: &PacketPath| {
            let folder = below(self.nodes_folder(ruleset), path.tag());
            let links = fs::symlink_metadata(folder).map_or(0, |folder| folder.nlink());
            usize::try_from(links.saturating_sub(2)).unwrap_or(usize::MAX)
        };
        let is_long = |path: &PacketPath| {
            let buckets = known.iter().filter(|bucket| bucket.path == *path).count();
            match listed.contains(path) || buckets == 0 && !own.contains(path) {
                true => buckets > SHORT,
                false => folders(path) > SHORT,
            }
        };
        paths.union(&own).copied().filter(is_long).collect()
    }

    /// Whether records other than these need shared chains.
    fn is_needed(
        &self,
        ruleset: Ruleset,
        shared_chains: &SharedChains,
        ids: &BTreeSet<&TunnelId>,
    ) -> Result<bool, RecordError> {
        if *shared_chains == SharedChains::Base(Table::Filter)
            && let Some(known) = self
                .cache()
                .listed
                .get(&ruleset)
                .and_then(|listed| listed.has_others(ids))
        {
            return Ok(known);
        }
        let folder = self.node_folder(ruleset, shared_chains);
        // What one tunnel needs another one most often needs too. glibc reads a thousand names for
        // the first one of a directory.
        let other = self.listed_other(ruleset, ids);
        if other.is_some_and(|other| folder.join(other).exists()) {
            return Ok(true);
        }
        is_any(file::file_names(&folder)?, |name| is_other(name, ids))
    }

    /// The members of a bucket, without these records.
    fn bucket_members(
        &self,
        ruleset: Ruleset,
        bucket: DispatchBucket,
        ids: &BTreeSet<&TunnelId>,
    ) -> Result<Vec<BucketMember>, RecordError> {
        let names = self.index_names(&self.node_folder(ruleset, &SharedChains::Bucket(bucket)))?;
        let members = names.iter().filter_map(|name| bucket_member(name));
        Ok(members.filter(|member| !ids.contains(member.order.id())).collect())
    }

    /// Adds the buckets of these paths, and what other records may have before the buckets in the
    /// dispatchers.
    fn add_dispatchers(
        &self,
        ruleset: Ruleset,
        paths: &BTreeSet<PacketPath>,
        ids: &BTreeSet<&TunnelId>,
        around: &mut Around,
    ) -> Result<(), RecordError> {
        for path in paths {
            for name in file::file_names(&self.nodes_folder(ruleset).join(path.tag()))? {
                around.buckets.extend(DispatchBucket::from_name(*path, &name?));
            }
        }
        if paths.is_empty() {
            return Ok(());
        }
        if paths.contains(&PacketPath::BlockIn) || paths.contains(&PacketPath::BlockOut) {
            for name in file::file_names(&self.nodes_folder(ruleset).join(INTERFACES))? {
                let interface = name?.parse().ok().map(SharedChains::Interface);
                around.parts.extend(interface);
            }
        }
        let blocks = SharedChains::Optional(OptionalChains::ClearTextBlocks);
        if self.is_needed(ruleset, &blocks, ids)? {
            around.parts.insert(blocks);
        }
        let gateway = TunnelId::for_gateway();
        if !ids.contains(&gateway) {
            let record = self.entry(ruleset, &gateway)?;
            around.gateway = record.map(|record| record.tunnel_rules().clone());
        }
        Ok(())
    }

    /// The folder whose files name the tunnels that the kernel cannot distinguish from this one.
    fn alike_folder(&self, ruleset: Ruleset, tunnel: &Tunnel) -> PathBuf {
        below(self.nodes_folder(ruleset), TunnelId::alike(tunnel).as_str())
    }

    pub(crate) fn nodes_folder(&self, ruleset: Ruleset) -> PathBuf {
        below(self.ruleset_folder(ruleset), "nodes")
    }

    /// A record's files in the index: one for each of the shared chains that it needs, and for a
    /// tunnel one for its selectors, and one for each opener if MOBIKE can change the selectors. A
    /// bucket's files also encode the tunnel's position and the number of its rules.
    pub(crate) fn index_files(&self, ruleset: Ruleset, entry: &Record) -> BTreeSet<PathBuf> {
        let (rules, id) = (entry.tunnel_rules(), entry.id().as_str());
        let nodes = rules.shared_chains().into_iter();
        let nodes = nodes.filter(|shared_chains| *shared_chains != SharedChains::Base(Table::Filter));
        let mut files: BTreeSet<_> = nodes
            .map(|shared_chains| {
                let bucket = shared_chains.as_bucket();
                let member = bucket.and_then(|bucket| rules.member_of(&bucket));
                let name = member.map_or_else(|| id.to_owned(), |member| member_name(&member));
                below(self.node_folder(ruleset, &shared_chains), name)
            })
            .collect();
        if let Record::Tunnel(record) = entry {
            files.insert(below(self.alike_folder(ruleset, &record.tunnel), id));
            let openers = record.openers.iter().filter(|_| can_move(&record.tunnel));
            let names = openers.map(|opener| opener_id(&opener.tunnel(&record.tunnel)));
            files.extend(names.map(|name| self.nodes_folder(ruleset).join(name.as_str()).join(id)));
        }
        files
    }

    /// The folder whose files name the records that need these shared chains. Every record needs
    /// the filter table's base.
    pub(crate) fn node_folder(&self, ruleset: Ruleset, shared_chains: &SharedChains) -> PathBuf {
        match shared_chains {
            SharedChains::Base(Table::Filter) => self.tunnels_folder(ruleset),
            SharedChains::Base(Table::Nat | Table::Mangle)
            | SharedChains::Interfaces
            | SharedChains::Wildcard(..)
            | SharedChains::Interface(_)
            | SharedChains::Bucket(_)
            | SharedChains::Optional(_) => below(self.nodes_folder(ruleset), shared_chains.to_string()),
        }
    }
}

/// The name of a bucket's file: the id, the three widths that precede the id in the order of
/// tunnels, and the numbers of rules at the head and at the tail.
fn member_name(member: &BucketMember) -> String {
    let [remote, local, traffic] = member.order.breadths();
    let BucketMember { order, heads, tails } = member;
    format!("{}+{remote}+{local}+{traffic}+{heads}+{tails}", order.id())
}

/// Whether a file of the index is about another record than these.
pub(super) fn is_other(name: &str, ids: &BTreeSet<&TunnelId>) -> bool {
    member_id(name).is_some_and(|id| !ids.contains(&id))
}

/// The id of the record that a file of the index belongs to.
pub(super) fn member_id(name: &str) -> Option<TunnelId> {
    let id = name.split('+').next()?;
    id.parse().ok().filter(|_| !name.ends_with(NEW))
}

/// The member that a bucket's file encodes.
fn bucket_member(name: &str) -> Option<BucketMember> {
    let mut words = name.split('+');
    let id = words.next()?.parse().ok()?;
    let numbers: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [remote, local, traffic, heads, tails] = numbers[..] else {
        return None;
    };
    Some(BucketMember {
        order: TunnelOrder::from_breadths([remote, local, traffic], id)?,
        heads: usize::try_from(heads).ok()?,
        tails: usize::try_from(tails).ok()?,
    })
}

/// The name of the folder whose files name the tunnels that a call's peer has up.
fn opener_id(call: &Tunnel) -> TunnelId {
    TunnelId::for_opener(&call.connection, &call.remote_id, call.user.as_ref())
}
