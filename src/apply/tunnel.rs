//! What opening and closing the firewall for a tunnel comes to.

use super::{ApplyError, Course, Outcome, Session, Work, alike};
use crate::contract::{Multiplicity, Tunnel};
use crate::iptables::Tables;
use crate::netfilter::Ruleset;
use crate::plan::{
    NatExemption, PolicyContext, TunnelId, TunnelKey, TunnelRules, esp_peer_rules, kept_sources, tunnel_rules,
};
use crate::record::{Entry, FORMAT, OuterRecord, Settle, TunnelRecord};
use crate::selector::{Family, MarkBit};
use crate::settings::{Esp, Policy, Settings};

impl<T: Tables> Session<'_, T> {
    /// Opens the firewall for a tunnel.
    ///
    /// # Errors
    /// If that is not possible; nothing of it is left then.
    pub fn open(&mut self, tunnel: &Tunnel) -> Result<Outcome, ApplyError> {
        let course = self.opening(tunnel)?;
        for (index, work) in course.works.iter().enumerate() {
            if let Err(error) = self.carry_out(work) {
                // What was done in the other family's ruleset goes again. If that fails, the next `down` finds it.
                for done in course.works[..index].iter().rev() {
                    let _ = self.carry_out(&reversed(done));
                }
                return Err(error);
            }
        }
        self.notes.extend(course.notes);
        Ok(course.outcome)
    }

    /// Closes the firewall for a tunnel, by its record.
    ///
    /// # Errors
    /// If that is not possible; the record stands then.
    pub fn close(&mut self, tunnel: &Tunnel) -> Result<Outcome, ApplyError> {
        let course = self.closing(tunnel)?;
        let results: Vec<_> = course.works.iter().map(|work| self.carry_out(work)).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        Ok(course.outcome)
    }

    /// What opening the firewall for a tunnel comes to.
    ///
    /// # Errors
    /// If the record cannot be read, there is no iptables, or what is set for the tunnel does not go with it.
    pub fn opening(&self, tunnel: &Tunnel) -> Result<Course, ApplyError> {
        let key = TunnelKey::from_tunnel(tunnel);
        let (ruleset, old, id) = match self.find(tunnel, &key)? {
            Some((ruleset, old)) => (ruleset, Some(old.clone()), old.id),
            None => self.place(tunnel, &key)?,
        };
        let (count, settle) = match tunnel.multiplicity {
            Multiplicity::Counted => (
                old.as_ref().map_or(1, |old| old.count.saturating_add(1)),
                Settle::Complete,
            ),
            Multiplicity::Single | Multiplicity::Instances => (1, Settle::Abandon),
        };
        let alike = self.others_alike(ruleset, tunnel, &id)?;
        let last = alike.iter().map(|other| other.turn.saturating_add(1)).max();
        let new = TunnelRecord {
            format: FORMAT,
            id,
            key,
            multiplicity: tunnel.multiplicity,
            count,
            since: self.caller.now,
            daemon: self.caller.daemon,
            tunnel: tunnel.clone(),
            policy: self.caller.settings.policy(tunnel),
            effective: None,
            turn: old.as_ref().map_or(last.unwrap_or_default(), |old| old.turn),
            tunnel_rules: TunnelRules::default(),
        };
        let mut new = self.agree(new, &alike, old.as_ref(), self.installed(ruleset)?.mark)?;
        let stood = old.as_ref().filter(|old| old.tunnel_rules == new.tunnel_rules);
        new.since = stood.map_or(new.since, |old| old.since);
        let outcome = match stood {
            Some(_) => Outcome::StoodAlready(count),
            None => Outcome::Opened,
        };
        let changes_policy = old.as_ref().is_none_or(|old| old.policy != new.policy);
        let conflict = alike::conflict(&new, &alike).filter(|_| changes_policy);
        let unguarded = self.unguarded(&new).filter(|_| changes_policy);
        let mut works = Vec::from_iter(self.outer_opening(&new, settle)?);
        let mut work = Work {
            ruleset,
            gone: old.map(Entry::from).into_iter().collect(),
            come: Vec::new(),
            settle,
        };
        self.add_guards(&mut work, &new)?;
        let all: Vec<_> = alike.iter().chain([&new]).collect();
        self.follow(&mut work, &alike, &all)?;
        work.come.push(new.into());
        works.push(work);
        Ok(Course {
            works,
            outcome,
            notes: conflict.into_iter().chain(unguarded).collect(),
        })
    }

    /// The rules of a tunnel. One whose nat table takes none of ours goes on without.
    pub(super) fn tunnel_rules(
        &self,
        tunnel: &Tunnel,
        id: &TunnelId,
        policy: &Policy,
        old: Option<&TunnelRecord>,
        mark: MarkBit,
    ) -> Result<TunnelRules, ApplyError> {
        let settings = &self.caller.settings;
        let recorded = || old.map(|old| kept_sources(&old.tunnel_rules)).unwrap_or_default();
        let connected = self.caller.connected.clone().unwrap_or_else(recorded);
        let terms = PolicyContext {
            policy,
            connected: &connected,
            esp: settings.gateway.esp,
            nat_exemption: match settings.leaves_nat_alone() {
                true => NatExemption::Never,
                false => NatExemption::Possible,
            },
            mark,
            interfaces: &self.caller.interfaces,
            path_mtu: tunnel.peer.and_then(|peer| self.caller.path_mtus.get(&peer).copied()),
        };
        let tunnel_rules = tunnel_rules(tunnel, id, &terms).map_err(|fault| ApplyError::Policy {
            connection: tunnel.connection.clone(),
            fault,
        })?;
        let spared = old.is_some_and(|old| old.tunnel_rules == tunnel_rules.clone().without_nat());
        match spared && tunnel_rules.can_omit_nat() {
            true => Ok(tunnel_rules.without_nat()),
            false => Ok(tunnel_rules),
        }
    }

    /// What lets in the ESP of a tunnel whose packets are of the other family. Before the tunnel itself, which nothing comes by without it.
    fn outer_opening(&self, record: &TunnelRecord, settle: Settle) -> Result<Option<Work>, ApplyError> {
        let Some((family, new)) = outer(record, &self.caller.settings) else {
            return Ok(None);
        };
        let ruleset = Ruleset {
            backend: self.tables.default_backend(family)?,
            family,
        };
        let old = self.store.entry(ruleset, &new.id)?;
        Ok(Some(Work {
            ruleset,
            gone: old.into_iter().collect(),
            come: vec![Entry::Outer(new)],
            settle,
        }))
    }

    /// Has a tunnel's networks held apart, if that is set for it. That stays when the tunnel goes.
    fn add_guards(&self, work: &mut Work, record: &TunnelRecord) -> Result<(), ApplyError> {
        for new in self.guards(work.ruleset, record)? {
            let old = self.store.entry(work.ruleset, new.id())?;
            if let Some(Entry::Guard(old)) = &old
                && old.tunnel_rules == *new.tunnel_rules()
                && old.tunnel.is_some()
            {
                continue;
            }
            work.gone.extend(old);
            work.come.push(new);
        }
        Ok(())
    }

    /// What closing it comes to; no work, if the tunnel is not on record.
    ///
    /// # Errors
    /// If the record cannot be read.
    pub fn closing(&self, tunnel: &Tunnel) -> Result<Course, ApplyError> {
        let Some((ruleset, record)) = self.find_open(tunnel)? else {
            return Ok(Course {
                works: match crosses(tunnel) {
                    true => self.outer_closing(TunnelKey::from_tunnel(tunnel).ids())?,
                    false => Vec::new(),
                },
                outcome: Outcome::NothingThere,
                notes: Vec::new(),
            });
        };
        let (id, crosses) = (record.id.clone(), crosses(&record.tunnel));
        let left = record.count.saturating_sub(1);
        let (come, outcome) = match left {
            0 => (Vec::new(), Outcome::Closed),
            1.. => (
                vec![Entry::from(TunnelRecord {
                    count: left,
                    ..record.clone()
                })],
                Outcome::StillNeeded(left),
            ),
        };
        let alike = self.others_alike(ruleset, &record.tunnel, &id)?;
        let mut work = Work {
            ruleset,
            gone: vec![record.into()],
            come,
            settle: Settle::Complete,
        };
        if outcome == Outcome::Closed {
            self.follow(&mut work, &alike, &alike.iter().collect::<Vec<_>>())?;
        }
        let mut works = vec![work];
        if outcome == Outcome::Closed && crosses {
            works.extend(self.outer_closing([id])?);
        }
        Ok(Course {
            works,
            outcome,
            notes: Vec::new(),
        })
    }

    pub(super) fn outer_closing(&self, ids: impl IntoIterator<Item = TunnelId>) -> Result<Vec<Work>, ApplyError> {
        let mut works = Vec::new();
        for outer in ids.into_iter().map(|id| TunnelId::for_esp_peer(&id)) {
            for ruleset in Ruleset::all() {
                if let Some(entry) = self.store.entry(ruleset, &outer)? {
                    works.push(Work {
                        ruleset,
                        gone: vec![entry],
                        come: Vec::new(),
                        settle: Settle::Complete,
                    });
                }
            }
        }
        Ok(works)
    }
}

/// Whether a tunnel's packets are of another family than what they are sent in.
pub(super) fn crosses(tunnel: &Tunnel) -> bool {
    tunnel.peer.is_some_and(|peer| Family::of(peer) != tunnel.family())
}

/// What undoes some work.
fn reversed(work: &Work) -> Work {
    Work {
        ruleset: work.ruleset,
        gone: work.come.clone(),
        come: work.gone.clone(),
        settle: Settle::Complete,
    }
}

/// What lets in ESP for a tunnel whose packets are of the other family, and the family of its ruleset; nothing, if that is not asked for.
pub(super) fn outer(record: &TunnelRecord, settings: &Settings) -> Option<(Family, OuterRecord)> {
    match settings.gateway.esp {
        Esp::Negotiated => {}
        Esp::Any | Esp::Known | Esp::Leave => return None,
    }
    let peer = record.tunnel.peer.filter(|_| crosses(&record.tunnel))?;
    let new = OuterRecord {
        format: FORMAT,
        id: TunnelId::for_esp_peer(&record.id),
        daemon: record.daemon,
        tunnel_rules: esp_peer_rules(peer),
    };
    Some((Family::of(peer), new))
}
