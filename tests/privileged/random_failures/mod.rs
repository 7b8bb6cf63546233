//! Restores that fail by chance, one in three, in the long life of many tunnels. At its end the record and the kernel agree, and hold what a
//! model says that knows nothing but how each call ended: at most one `restore` brings them there.
//!
//! `contrib/faults random` runs this longer and prints the figures; `FAULTS_SEED=N` has a run again.

mod emulated;
mod real;
