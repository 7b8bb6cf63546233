//! A call that is killed at any step, on real iptables. These tests need root.
//!
//! strace kills the program, and nothing else, at each of its system calls in turn that can change something. One more call
//! follows, then the rest of the tunnel's life. Semantics on purpose: Pluto takes a hook that dies for a refusal and never calls
//! `down`, so a killed `up` of libreswan's is undone; charon does not care and calls `down` one day, so strongSwan's is
//! completed; and every killed `down` is completed. Of a killed `route` or `unroute` the record knows at least what is in, so that
//! the next call about that network goes on from there.

mod errors;
mod life;
mod many;
mod races;
mod routes;
mod settings;
mod steps;

use crate::support::binary::Call;
use crate::support::captures::{libreswan_up, strongswan_up};
use life::{Life, Next, REPLACING_REQID};
use pluto_updown::netfilter::Backend;

/// Kills the call at every step, with every kind of call behind it.
fn killed_everywhere(life: &Life, backend: Backend) {
    for next in Next::ALL {
        life.with_a_death_at_every_step(backend, next);
    }
}

fn libreswan_up_killed() -> Life {
    Life {
        up: libreswan_up(),
        ups: 0,
        killed: libreswan_up(),
        stands_if_settled: Some(false),
    }
}

fn libreswan_down_killed() -> Life {
    Life {
        up: libreswan_up(),
        ups: 1,
        killed: libreswan_up().opposite(),
        stands_if_settled: Some(false),
    }
}

fn libreswan_replacing_up_killed() -> Life {
    let killed = libreswan_up().with("PLUTO_SA_REQID", REPLACING_REQID);
    Life {
        up: libreswan_up(),
        ups: 1,
        killed,
        stands_if_settled: None,
    }
}

/// A tunnel that has something in two tables.
fn translated_up() -> Call {
    libreswan_up()
        .with("CAT", "YES")
        .with("PLUTO_MY_CLIENT", "10.0.10.1/32")
}

fn translated_up_killed() -> Life {
    Life {
        up: translated_up(),
        ups: 0,
        killed: translated_up(),
        stands_if_settled: Some(false),
    }
}

fn translated_down_killed() -> Life {
    Life {
        up: translated_up(),
        ups: 1,
        killed: translated_up().opposite(),
        stands_if_settled: Some(false),
    }
}

fn strongswan_up_killed() -> Life {
    Life {
        up: strongswan_up(),
        ups: 0,
        killed: strongswan_up(),
        stands_if_settled: Some(true),
    }
}

fn strongswan_second_up_killed() -> Life {
    Life {
        up: strongswan_up(),
        ups: 1,
        killed: strongswan_up(),
        stands_if_settled: Some(true),
    }
}

fn strongswan_down_killed() -> Life {
    Life {
        up: strongswan_up(),
        ups: 1,
        killed: strongswan_up().opposite(),
        stands_if_settled: Some(false),
    }
}

macro_rules! killed {
    ($($name:ident: $life:ident on $backend:ident;)*) => {$(
        #[test]
        #[ignore = "needs root and iptables: run by contrib/test"]
        fn $name() {
            killed_everywhere(&$life(), Backend::$backend);
        }
    )*};
}

killed! {
    a_killed_libreswan_up_is_undone_on_nft: libreswan_up_killed on Nft;
    a_killed_libreswan_up_is_undone_on_legacy: libreswan_up_killed on Legacy;
    a_killed_libreswan_down_is_completed_on_nft: libreswan_down_killed on Nft;
    a_killed_libreswan_down_is_completed_on_legacy: libreswan_down_killed on Legacy;
    a_killed_replacement_leaves_one_of_the_two_on_nft: libreswan_replacing_up_killed on Nft;
    a_killed_replacement_leaves_one_of_the_two_on_legacy: libreswan_replacing_up_killed on Legacy;
    a_killed_up_of_two_tables_is_undone_on_nft: translated_up_killed on Nft;
    a_killed_down_of_two_tables_is_completed_on_legacy: translated_down_killed on Legacy;
    a_killed_strongswan_up_is_completed_on_nft: strongswan_up_killed on Nft;
    a_killed_strongswan_up_is_completed_on_legacy: strongswan_up_killed on Legacy;
    a_killed_second_strongswan_up_leaves_the_tunnel_on_nft: strongswan_second_up_killed on Nft;
    a_killed_second_strongswan_up_leaves_the_tunnel_on_legacy: strongswan_second_up_killed on Legacy;
    a_killed_strongswan_down_is_completed_on_nft: strongswan_down_killed on Nft;
    a_killed_strongswan_down_is_completed_on_legacy: strongswan_down_killed on Legacy;
}
