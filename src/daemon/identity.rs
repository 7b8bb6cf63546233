//! Identities and user names: from a daemon's spelling to the bytes that the peer showed.

use super::kind::{Daemon, Libreswan};
use super::names::PeerText;

/// An identity or a user name, as the peer showed it.
///
/// - libreswan 4.0 to 5.3 writes `'`, `"`, `$`, the backquote, the backslash and every byte that is
///   not printable ASCII as `\ooo` (`jam_shell_quoted_bytes`, up to 4.15 `jam_meta_escaped_bytes`);
///   5.4 leaves the five as they are.
/// - Every libreswan writes a distinguished name as in RFC 4514 before that; see [`distinguished`].
/// - libreswan 3.x and Openswan write octal numbers with a digit too many or too few
///   (`escape_metachar`), so that what follows is unknown. So it is under FreeS/WAN, where some
///   versions escape and others do not.
/// - strongSwan writes `?` for every byte that is not printable ASCII (`chunk_printable`), and
///   escapes nothing.
pub(super) fn unescape_identity(daemon: Daemon, stack: Option<&str>, raw: &[u8]) -> PeerText {
    match daemon {
        Daemon::StrongSwan => PeerText::new(raw),
        Daemon::Libreswan(Libreswan::V54) => PeerText::new(&distinguished(raw)),
        Daemon::Libreswan(Libreswan::V5) => PeerText::new(&distinguished(&octal(raw))),
        Daemon::Libreswan(Libreswan::V4) if stack == Some("xfrm") => PeerText::new(&distinguished(&octal(raw))),
        Daemon::Libreswan(Libreswan::V4) | Daemon::Openswan | Daemon::FreesWan => {
            match raw.iter().position(|byte| *byte == b'\\') {
                Some(end) => PeerText::new(&raw[..end]).cut_to_limit(),
                None => PeerText::new(raw),
            }
        }
    }
}

/// Replaces every `\ooo`, three octal digits, by its byte.
fn octal(raw: &[u8]) -> Vec<u8> {
    decoded(raw, |behind| {
        let digits = std::str::from_utf8(behind.get(..3)?).ok()?;
        let byte = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let byte = byte.then(|| u8::from_str_radix(digits, 8).ok()).flatten()?;
        Some((vec![byte], 3))
    })
}

/// A distinguished name without the escapes of RFC 4514 (libreswan's `format_dn`): `\"` and `\C3`,
/// as the peer showed it.
///
/// What separates the parts of a name stays escaped, `\,` `\+` `\\`: within a value it separates
/// nothing. Other identities stay as they are.
fn distinguished(raw: &[u8]) -> Vec<u8> {
    if !raw.contains(&b'=') || raw.starts_with(b"@") {
        return raw.to_vec();
    }
    decoded(raw, |behind| match *behind.first()? {
        separator @ (b',' | b'+' | b'\\') => Some((vec![b'\\', separator], 1)),
        byte @ (b'"' | b';' | b'<' | b'>' | b'#' | b' ' | b'=') => Some((vec![byte], 1)),
        _ => {
            let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
            let digits = digits
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then_some(digits)?;
            Some((vec![u8::from_str_radix(digits, 16).ok()?], 2))
        }
    })
}

/// A text with the escapes in it replaced: `escape` returns the bytes for the text after a
/// backslash, and the length of that text. A backslash that begins no escape stays.
fn decoded(raw: &[u8], escape: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, behind)) = rest.split_first() {
        match escape(behind).filter(|_| first == b'\\') {
            Some((bytes, length)) => {
                text.extend(bytes);
                rest = &behind[length..];
            }
            None => {
                text.push(first);
                rest = behind;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Daemon = Daemon::Libreswan(Libreswan::V4);
    const V5: Daemon = Daemon::Libreswan(Libreswan::V5);
    const V54: Daemon = Daemon::Libreswan(Libreswan::V54);

    fn bytes(daemon: Daemon, raw: &str) -> Vec<u8> {
        unescape_identity(daemon, Some("xfrm"), raw.as_bytes()).bytes()
    }

    #[test]
    fn an_identity_is_the_same_under_every_version_of_libreswan() {
        let shown = "C=FR, O=L'Exemple Gr\u{fc}n \"Nord\" $`x, CN=a\\,b".as_bytes();
        let quoted = r"C=FR, O=L\047Exemple Gr\134C3\134BCn \134\042Nord\134\042 \044\140x, CN=a\134,b";
        assert_eq!(bytes(V4, quoted), shown);
        assert_eq!(bytes(V5, quoted), shown);
        assert_eq!(
            bytes(V54, r#"C=FR, O=L'Exemple Gr\C3\BCn \"Nord\" $`x, CN=a\,b"#),
            shown
        );
        assert_eq!(
            bytes(V5, r"gr\303\274n@example.org"),
            "gr\u{fc}n@example.org".as_bytes()
        );
    }

    #[test]
    fn a_separator_within_a_value_stays_escaped() {
        for (quoted, raw) in [
            (r"O=evil\134, O=staff", r"O=evil\, O=staff"),
            (r"O=evil\134+CN=x", r"O=evil\+CN=x"),
            (r"O=a\134\134, CN=x", r"O=a\\, CN=x"),
        ] {
            assert_eq!(bytes(V5, quoted), raw.as_bytes());
            assert_eq!(bytes(V54, raw), raw.as_bytes());
        }
    }

    #[test]
    fn only_what_is_an_escape_is_decoded() {
        for raw in [r"a\", r"a\04", r"a\999", r"@x\C3=y", r"x\C3y"] {
            assert_eq!(bytes(V54, raw), raw.as_bytes());
        }
        assert_eq!(bytes(Daemon::StrongSwan, r"O=a\047, CN=\C3"), br"O=a\047, CN=\C3");
        assert_eq!(bytes(V5, r"a\400"), br"a\400");
    }

    #[test]
    fn what_follows_a_garbled_escape_is_unknown() {
        for (daemon, stack) in [(V4, "netkey"), (Daemon::Openswan, "netkey"), (Daemon::FreesWan, "")] {
            let text = unescape_identity(daemon, Some(stack), br"O=L\0347Exemple");
            assert!(text.is_cut());
            assert_eq!(text.bytes(), b"O=L");
            assert!(!unescape_identity(daemon, Some(stack), b"O=Exemple").is_cut());
        }
    }
}
