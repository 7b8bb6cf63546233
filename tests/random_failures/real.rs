//! On real iptables.
