//! Whatever the variables hold, a call is read or refused in one plain line.

use proptest::prelude::*;

use super::*;
use crate::daemon::VARIABLES;

/// The name of any variable that is known.
fn variable() -> impl Strategy<Value = String> {
    let names: Vec<_> = VARIABLES.iter().map(|(pattern, _)| pattern.replace('*', "1")).collect();
    prop::sample::select(names)
}

fn call() -> impl Strategy<Value = SampleCall> {
    let kinds: Vec<_> = every_kind().into_iter().map(|(_, call)| call).collect();
    prop::sample::select(kinds)
}

/// Any bytes that a variable can hold, some of them nearly right.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(1u8..=255, 0..80);
    let nearly = "[0-9a-f:./x-]{0,24}|(up|down|route|prepare)-(up|client|host)(-v6)?|[0-9]{1,12}(:[0-9]{1,6})?";
    prop_oneof![
        bytes(),
        nearly.prop_map(String::into_bytes),
        (bytes(), 1usize..300).prop_map(|(b, n)| b.repeat(n))
    ]
}

fn is_plain(line: &str) -> bool {
    !line.is_empty() && line.len() < 400 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether an outcome is fit to be logged and put into rules.
fn is_fit(outcome: &Result<Event, EnvError>) -> bool {
    match outcome {
        Err(error) => is_plain(&error.to_string()),
        Ok(Event {
            firewall: FirewallAction::Nothing,
            ..
        }) => true,
        Ok(Event {
            firewall: FirewallAction::Open(tunnel) | FirewallAction::Close(tunnel),
            ..
        }) => {
            let texts = [Some(&tunnel.local_id), Some(&tunnel.remote_id), tunnel.user.as_ref()];
            is_plain(&tunnel.connection.slug(16))
                && is_plain(&tunnel.connection.comment())
                && texts
                    .into_iter()
                    .flatten()
                    .all(|text| text.is_empty() || text.as_str().len() <= 2044)
        }
    }
}

proptest! {
    #![proptest_config(crate::property::cases(256))]

    #[test]
    fn any_bytes_in_any_variables_are_read_or_refused_in_one_line(
        call in call(),
        changes in prop::collection::vec((variable(), value()), 1..4),
    ) {
        let call = changes.iter().fold(call, |call, (name, value)| call.with_bytes(name, value));
        let outcome = call.parse_event();
        prop_assert!(is_fit(&outcome), "{outcome:?}");
        let resolver = outcome.ok().and_then(|event| event.resolver);
        let mut faults = resolver.iter().flat_map(|action| &action.faults);
        prop_assert!(faults.all(|fault| is_plain(&fault.to_string())), "{resolver:?}");
    }

    #[test]
    fn a_name_of_any_bytes_comes_back_from_storage(raw in prop::collection::vec(0u8..=255, 1..200), most in 0usize..40) {
        let name = crate::daemon::ConnectionName::new(&raw).unwrap();
        let stored = serde_json::to_string(&name).unwrap();
        prop_assert_eq!(serde_json::from_str::<crate::daemon::ConnectionName>(&stored).unwrap(), name.clone());
        let slug = name.slug(most);
        prop_assert!(slug.len() <= most);
        prop_assert!(slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
        prop_assert!(!slug.starts_with(['-', '.', '_']) && !slug.ends_with(['-', '.', '_']));
        prop_assert!(name.comment().len() <= 128);
    }

    #[test]
    fn different_names_are_stored_differently(a in prop::collection::vec(0u8..=255, 1..6), b in prop::collection::vec(0u8..=255, 1..6)) {
        let name = |raw: &[u8]| crate::daemon::ConnectionName::new(raw).unwrap();
        prop_assert_eq!(a == b, name(&a) == name(&b));
    }

    #[test]
    fn a_text_of_any_bytes_comes_back_from_storage(raw in prop::collection::vec(0u8..=255, 0..700)) {
        let text = crate::daemon::PeerText::new(&raw);
        prop_assert_eq!(text.bytes(), &raw[..raw.len().min(510)]);
        let stored = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(serde_json::from_str::<crate::daemon::PeerText>(&stored).unwrap(), text);
    }
}
