//! Routes of others that ours replace: saved before, and put back after.
//!
//! An administrator's blackhole or backup route keeps packets from leaving unencrypted while the tunnel is down. libreswan's script replaces it
//! (`ip route replace`) and deletes its own at `unroute`, so that packets take the default route then.

use super::routing::{Removal, RoutingError, RoutingSession};
use crate::plan::{RoutingKey, object_key};
use crate::rtnetlink::{Item, NetlinkError, Network, Put, Route, Wanted};

impl<N: Network> RoutingSession<'_, N> {
    /// Puts an item in that does not stand by our record. A route of somebody else's that it replaces is saved before.
    pub(super) fn put_new(&mut self, key: &RoutingKey, item: &Item) -> Result<Put, RoutingError> {
        let Item::Route(route) = item else {
            return Ok(self.kernel.put(item)?);
        };
        let slot = object_key(item);
        // What another far network of ours has there is no one else's.
        if self.store.held(&slot, key)?.is_some() {
            return Ok(self.kernel.put(item)?);
        }
        match self.kernel.add_route(route)? {
            Put::New => return Ok(Put::New),
            Put::Stood => {}
        }
        if let Some(saved) = self.kernel.in_place_of(route)? {
            self.store.keep_replaced(&slot, &saved)?;
        }
        let put = self.kernel.put(item);
        if put.is_err() {
            self.store.forget_replaced(&slot)?;
        }
        Ok(put?)
    }

    /// Takes an item out that no other far network needs, or puts back the route that it replaced: in one step, so that no packet takes
    /// another way meanwhile.
    pub(super) fn take_out(&mut self, item: &Item) -> Result<Removal, RoutingError> {
        let slot = object_key(item);
        let (Item::Route(route), Some(saved)) = (item, self.store.replaced(&slot)?) else {
            self.kernel.take_out(item)?;
            return Ok(Removal::Out);
        };
        let removal = match self.is_others(route)? {
            // Somebody has put another one there since.
            true => Removal::Out,
            false => match self.kernel.put_back(&saved) {
                Ok(()) => Removal::Out,
                Err(error) => {
                    self.kernel.take_out(item)?;
                    Removal::Bare(error)
                }
            },
        };
        self.store.forget_replaced(&slot)?;
        Ok(removal)
    }

    /// Whether what stands where a route of ours was put in is another route. Of other tables than the main one that is not known.
    fn is_others(&mut self, route: &Route) -> Result<bool, NetlinkError> {
        if !route.table.is_main() {
            return Ok(false);
        }
        let slot = object_key(&Item::Route(route.clone()));
        let listed = self.kernel.routes(&Wanted::To(route.destination))?;
        let mut there = listed.into_iter().filter(|listed| {
            let usual = if listed.destination.addr().is_ipv6() { 1024 } else { 0 };
            let metric = listed
                .metric
                .filter(|metric| *metric != usual || route.metric.is_some());
            let listed = Route {
                metric,
                ..listed.clone()
            };
            object_key(&Item::Route(listed)) == slot
        });
        Ok(there.next().is_some_and(|listed| !route.is_listed_as(&listed)))
    }
}
