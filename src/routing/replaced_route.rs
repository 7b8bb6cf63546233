//! Other programs' routes that this program's routes replace: saved before, and restored after.
//!
//! An administrator's blackhole or backup route keeps packets from leaving unencrypted while the
//! tunnel is down. libreswan's script replaces it (`ip route replace`) and deletes its own at
//! `unroute`, so that packets take the default route then.

use nix::errno::Errno;

use super::apply::{Removal, RoutingChange, RoutingEngine, RoutingError};
use super::plan::{RoutingKey, object_key};
use crate::netlink::{InstallResult, NetConfig, NetObject, NetlinkError, NetlinkFault, Route, RouteQuery};

impl<N: NetConfig> RoutingEngine<'_, N> {
    /// Installs an object. Another program's route that it replaces is saved before.
    ///
    /// The record alone does not show whether the present route is this program's: a call may have
    /// died, or been refused, after it had recorded the route.
    pub(super) fn install_object(
        &mut self,
        change: &RoutingChange,
        item: &NetObject,
    ) -> Result<InstallResult, RoutingError> {
        let NetObject::Route(route) = item else {
            return Ok(self.kernel.install(item)?);
        };
        match self.kernel.add_route(route)? {
            InstallResult::New => return Ok(InstallResult::New),
            InstallResult::Existed => {}
        }
        let object = object_key(item);
        let recorded = change.recorded().iter().filter(|other| object_key(other) == object);
        let own_objects: Vec<_> = recorded
            .cloned()
            .chain(self.store.held_objects(&object, &change.key)?)
            .collect();
        let saved = match self.is_one_of(route, &own_objects)? {
            true => None,
            false => self.kernel.in_place_of(route)?,
        };
        if let Some(saved) = &saved {
            self.store.record_replaced_route(&object, saved)?;
        }
        let result = self.kernel.install(item);
        if result.is_err() && saved.is_some() {
            self.store.erase_replaced_route(&object)?;
        }
        Ok(result?)
    }

    /// Removes an object that no other remote network needs, or restores the route that it
    /// replaced: in one step, so that no packet takes another route meanwhile.
    pub(super) fn remove_object(&mut self, key: &RoutingKey, item: &NetObject) -> Result<Removal, RoutingError> {
        let object = object_key(item);
        let (NetObject::Route(_), Some(saved)) = (item, self.store.replaced_route(&object)?) else {
            self.kernel.delete(item)?;
            return Ok(Removal::Out);
        };
        let is_ours = !self.is_somebody_elses(key, item)?;
        let removal = match is_ours.then(|| self.kernel.put_back(&saved)) {
            // Another program has replaced it since.
            None | Some(Ok(())) => Removal::Replaced(object.clone()),
            // Its interface or its next hop no longer exists.
            Some(Err(error)) if is_wayless(&error) => {
                self.kernel.delete(item)?;
                Removal::Bare(error)
            }
            Some(Err(error)) => return Err(error.into()),
        };
        self.store.erase_replaced_route(&object)?;
        Ok(removal)
    }

    /// Whether the main table has a route with this key that no record names. Then this program's
    /// route is not installed there: a call died or was refused before, or another program has
    /// replaced it since.
    pub(super) fn is_somebody_elses(&mut self, key: &RoutingKey, item: &NetObject) -> Result<bool, RoutingError> {
        let NetObject::Route(route) = item else {
            return Ok(false);
        };
        let Some(listed) = self.present_route(route)? else {
            return Ok(false);
        };
        let recorded = self
            .store
            .routing_record(key)?
            .map_or_else(Vec::new, |record| record.objects);
        let held = self.store.held_objects(&object_key(item), key)?;
        let mut own_objects = recorded.iter().chain(&held).chain([item]);
        Ok(!own_objects.any(|own| is_listed(own, &listed)))
    }

    /// Whether the present route with a route's key is one of these objects. For tables other than
    /// the main one that is unknown.
    fn is_one_of(&mut self, route: &Route, own_objects: &[NetObject]) -> Result<bool, NetlinkError> {
        if own_objects.is_empty() || !route.table.is_main() {
            return Ok(!own_objects.is_empty());
        }
        let listed = self.present_route(route)?;
        Ok(listed.is_some_and(|listed| own_objects.iter().any(|own| is_listed(own, &listed))))
    }

    /// The present unicast route with the key of a route of the main table.
    fn present_route(&mut self, route: &Route) -> Result<Option<Route>, NetlinkError> {
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

/// Whether the kernel lists an object so. An IPv6 route loses its source when that address is
/// deleted (`fib6_remove_prefsrc`), and is still the same route.
fn is_listed(item: &NetObject, listed: &Route) -> bool {
    let NetObject::Route(route) = item else { return false };
    let lost_source = || Route {
        source: None,
        ..route.clone()
    };
    route.is_listed_as(listed) || (route.destination.addr().is_ipv6() && lost_source().is_listed_as(listed))
}

/// Whether the kernel refuses a route because its interface or next hop no longer exists.
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
