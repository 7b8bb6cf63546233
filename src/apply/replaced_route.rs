//! Routes of others that ours replace: saved before, and put back after.
//!
//! An administrator's blackhole or backup route keeps packets from leaving unencrypted while the
//! tunnel is down. libreswan's script replaces it (`ip route replace`) and deletes its own at
//! `unroute`, so that packets take the default route then.

use nix::errno::Errno;

use super::routing::{Removal, RoutingChange, RoutingEngine, RoutingError};
use crate::plan::{RoutingKey, object_key};
use crate::rtnetlink::{InstallResult, NetConfig, NetObject, NetlinkError, NetlinkFault, Route, RouteQuery};

impl<N: NetConfig> RoutingEngine<'_, N> {
    /// Puts an item in. A route of somebody else's that it replaces is saved before.
    ///
    /// The record alone does not tell whether what stands there is ours: a call may have died, or
    /// been refused, after it had written down what it was about to put in.
    pub(super) fn put(&mut self, change: &RoutingChange, item: &NetObject) -> Result<InstallResult, RoutingError> {
        let NetObject::Route(route) = item else {
            return Ok(self.kernel.install(item)?);
        };
        match self.kernel.add_route(route)? {
            InstallResult::New => return Ok(InstallResult::New),
            InstallResult::Existed => {}
        }
        let slot = object_key(item);
        let standing = change.standing().iter().filter(|other| object_key(other) == slot);
        let ours: Vec<_> = standing
            .cloned()
            .chain(self.store.held_objects(&slot, &change.key)?)
            .collect();
        let saved = match self.is_one_of(route, &ours)? {
            true => None,
            false => self.kernel.in_place_of(route)?,
        };
        if let Some(saved) = &saved {
            self.store.record_replaced_route(&slot, saved)?;
        }
        let put = self.kernel.install(item);
        if put.is_err() && saved.is_some() {
            self.store.erase_replaced_route(&slot)?;
        }
        Ok(put?)
    }

    /// Takes an item out that no other far network needs, or puts back the route that it replaced:
    /// in one step, so that no packet takes another way meanwhile.
    pub(super) fn take_out(&mut self, key: &RoutingKey, item: &NetObject) -> Result<Removal, RoutingError> {
        let slot = object_key(item);
        let (NetObject::Route(_), Some(saved)) = (item, self.store.replaced_route(&slot)?) else {
            self.kernel.delete(item)?;
            return Ok(Removal::Out);
        };
        let is_ours = !self.is_somebody_elses(key, item)?;
        let removal = match is_ours.then(|| self.kernel.put_back(&saved)) {
            // Somebody has put another one there since.
            None | Some(Ok(())) => Removal::Replaced(slot.clone()),
            // Its device or its next hop is gone, and with it the way that it led.
            Some(Err(error)) if is_wayless(&error) => {
                self.kernel.delete(item)?;
                Removal::Bare(error)
            }
            Some(Err(error)) => return Err(error.into()),
        };
        self.store.erase_replaced_route(&slot)?;
        Ok(removal)
    }

    /// Whether a route stands in a slot of the main table that no record of ours names. Nothing of
    /// ours is installed there then: a call died or was refused before that, or somebody has
    /// replaced it since.
    pub(super) fn is_somebody_elses(&mut self, key: &RoutingKey, item: &NetObject) -> Result<bool, RoutingError> {
        let NetObject::Route(route) = item else {
            return Ok(false);
        };
        let Some(listed) = self.standing_route(route)? else {
            return Ok(false);
        };
        let recorded = self
            .store
            .routing_record(key)?
            .map_or_else(Vec::new, |record| record.objects);
        let held = self.store.held_objects(&object_key(item), key)?;
        let mut ours = recorded.iter().chain(&held).chain([item]);
        Ok(!ours.any(|own| is_listed(own, &listed)))
    }

    /// Whether what stands where a route goes is one of these of ours. Of other tables than the
    /// main one that is not known.
    fn is_one_of(&mut self, route: &Route, ours: &[NetObject]) -> Result<bool, NetlinkError> {
        if ours.is_empty() || !route.table.is_main() {
            return Ok(!ours.is_empty());
        }
        let listed = self.standing_route(route)?;
        Ok(listed.is_some_and(|listed| ours.iter().any(|own| is_listed(own, &listed))))
    }

    /// The unicast route that stands where a route of the main table goes.
    fn standing_route(&mut self, route: &Route) -> Result<Option<Route>, NetlinkError> {
        if !route.table.is_main() {
            return Ok(None);
        }
        let metric = |of: &Route| {
            of.metric
                .unwrap_or(if of.destination.addr().is_ipv6() { 1024 } else { 0 })
        };
        let listed = self.kernel.routes(&RouteQuery::To(route.destination))?;
        Ok(listed.into_iter().find(|listed| metric(listed) == metric(route)))
    }
}

/// Whether the kernel lists an item so. An IPv6 route stays without its source when somebody
/// deletes that address (`fib6_remove_prefsrc`), and is still ours.
fn is_listed(item: &NetObject, listed: &Route) -> bool {
    let NetObject::Route(route) = item else { return false };
    let lost_source = || Route {
        source: None,
        ..route.clone()
    };
    route.is_listed_as(listed) || (route.destination.addr().is_ipv6() && lost_source().is_listed_as(listed))
}

/// Whether the kernel refuses a route because what it needs is not there any more.
fn is_wayless(error: &NetlinkError) -> bool {
    const WAYLESS: [Errno; 5] = [
        Errno::ENODEV,
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::ENETDOWN,
        Errno::EINVAL,
    ];
    match &error.fault {
        NetlinkFault::Refused(errno) => WAYLESS.contains(errno),
        NetlinkFault::NoDevice(_) => true,
        NetlinkFault::NoVti(_) | NetlinkFault::Silent | NetlinkFault::Interrupted | NetlinkFault::Malformed(_) => false,
    }
}
