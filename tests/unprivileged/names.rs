//! The names of types: none stands for two things, and none hides a type of the standard library.
//! The names of functions: each can be searched for. The names of variables: none is a private word
//! for something that has a type with the field's name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Types that most Rust files mean by their bare names: the prelude's, and those that this program imports.
const STANDARD: [&str; 40] = [
    "Box",
    "Child",
    "Clone",
    "Command",
    "Copy",
    "Debug",
    "Default",
    "Display",
    "Drop",
    "Duration",
    "Entry",
    "Error",
    "File",
    "From",
    "FromStr",
    "Hash",
    "HashMap",
    "HashSet",
    "Instant",
    "Into",
    "IpAddr",
    "Iterator",
    "Metadata",
    "Option",
    "Ordering",
    "OsStr",
    "OsString",
    "Output",
    "Path",
    "PathBuf",
    "Permissions",
    "Range",
    "Rc",
    "Read",
    "Result",
    "Some",
    "Stdio",
    "String",
    "Vec",
    "Write",
];

/// Words that are found everywhere, so that a function with such a name is not; and private words.
const UNSEARCHABLE: [&str; 36] = [
    "at",
    "book",
    "duty",
    "fate",
    "find",
    "journey",
    "leg",
    "look",
    "mend",
    "mended",
    "of",
    "orderly",
    "ours",
    "piece",
    "put",
    "read",
    "say",
    "shown",
    "spelt",
    "spoil",
    "standing",
    "stands",
    "station",
    "tell",
    "text",
    "theirs",
    "timeless",
    "told",
    "traveller",
    "vague",
    "way",
    "ways",
    "what",
    "who",
    "whose",
    "write",
];

/// Private words and phrases in the names of functions, mostly of tests.
const PRIVATE_PARTS: [&str; 12] = [
    "told",
    "mended",
    "mends",
    "anew",
    "stood",
    "in_clear",
    "on_record",
    "held_apart",
    "put_in",
    "puts_in",
    "taken_out",
    "far_network",
];

/// Private names of variables, and those that the field has.
const PRIVATE_VARIABLES: [(&str, &str); 24] = [
    ("anew", "what is done"),
    ("book", "ruleset_view, emulator"),
    ("books", "ruleset_views, emulators"),
    ("device", "interface"),
    ("devices", "interfaces"),
    ("entrance", "base_chain"),
    ("far", "remote"),
    ("fate", "outcome"),
    ("fates", "outcomes"),
    ("ground", "command"),
    ("journey", "trace"),
    ("lane", "class"),
    ("leg", "endpoint"),
    ("mended", "repaired"),
    ("near", "local"),
    ("scene", "record_view"),
    ("session", "engine"),
    ("standing", "installed"),
    ("station", "hook"),
    ("stood", "what it holds"),
    ("theirs", "what it holds"),
    ("told", "what it holds"),
    ("traveller", "state"),
    ("works", "changes"),
];

/// Every Rust file of the program and of its tests, except this one, which has private names as samples.
fn checked_sources() -> impl Iterator<Item = PathBuf> {
    let roots = ["src", "tests"].map(|root| Path::new(env!("CARGO_MANIFEST_DIR")).join(root));
    let files = roots.into_iter().flat_map(|root| sources(&root));
    files.filter(|path| !path.ends_with(file!()))
}

/// The names of variables that a line declares: by `let`, and as parameters with a type.
fn declared_variables(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let by_let = line.split("let ").skip(1);
    let by_let = by_let.map(|rest| rest.trim_start_matches("mut ").split(|letter| !is_name(letter)).next());
    let parameters = line.match_indices(": ").filter_map(|(end, _)| {
        let before = &line[..end];
        let start = before.rfind(|letter| !is_name(letter)).map_or(0, |index| index + 1);
        let is_parameter = before[..start].ends_with(['(', '|']) || before[..start].ends_with(", ");
        let is_typed = line[end + 2..].starts_with(|letter: char| letter == '&' || letter.is_ascii_uppercase());
        (is_parameter && is_typed).then(|| &before[start..])
    });
    by_let.flatten().chain(parameters).collect()
}

#[test]
fn no_variable_has_a_private_name() {
    let mut found = Vec::new();
    for path in checked_sources() {
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            for name in declared_variables(line) {
                let private = PRIVATE_VARIABLES.iter().find(|(private, _)| *private == name);
                found.extend(
                    private.map(|(_, better)| format!("{}:{number}: {name}, better: {better}", path.display())),
                );
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_variables_that_a_line_declares() {
    assert_eq!(declared_variables("        let mut fate = outcomes(&book);"), ["fate"]);
    assert_eq!(
        declared_variables("fn text(scene: &RecordView, number: u8, way: Way) {"),
        ["scene", "way"]
    );
    assert_eq!(
        declared_variables("    let each = |told: &str| told.len();"),
        ["each", "told"]
    );
    assert_eq!(declared_variables("    // let fate = 1;"), <[&str; 0]>::default());
    assert_eq!(declared_variables("    near: Network,"), <[&str; 0]>::default());
}

/// The name of the function that a line declares.
fn declared_function(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_declaration = before.is_empty() || before.ends_with(' ') && before.starts_with(['p', 'c', 'u']);
    let name = after
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()?;
    (is_declaration && !line.trim_start().starts_with("//")).then_some(name)
}

#[test]
fn no_function_has_a_name_that_cannot_be_searched_for() {
    let mut found = Vec::new();
    for path in checked_sources() {
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            let has_private_part = |name: &str| {
                let words = format!("_{name}_");
                PRIVATE_PARTS.iter().any(|part| words.contains(&format!("_{part}_")))
            };
            let name = declared_function(line).filter(|name| UNSEARCHABLE.contains(name) || has_private_part(name));
            found.extend(name.map(|name| format!("{}:{number}: {name}", path.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_function_that_a_line_declares() {
    assert_eq!(
        declared_function("    pub(super) fn told<T>(text: &str) -> T {"),
        Some("told")
    );
    assert_eq!(declared_function("fn of(self) {"), Some("of"));
    assert_eq!(declared_function("    // As fn of has it."), None);
    assert_eq!(declared_function("    kept: fn(&NetObject) -> bool,"), None);
}

/// Every file of Rust below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The name of the type that a line declares. An associated type, which is indented, is none.
fn declared(line: &str) -> Option<&str> {
    let is_visibility = |word: &&str| word.starts_with("pub") || word.ends_with(')');
    let mut words = line.trim_start().split(' ').skip_while(is_visibility);
    let kind = words.next()?;
    let is_associated = kind == "type" && line.starts_with(' ');
    let is_declaration = ["struct", "enum", "trait", "union", "type"].contains(&kind) && !is_associated;
    let name = is_declaration.then(|| words.next()).flatten()?;
    name.split(|letter: char| !letter.is_alphanumeric()).next()
}

#[test]
fn no_type_name_is_declared_twice_and_none_hides_one_of_std() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            if let Some(name) = declared(line) {
                let place = format!("{}:{number}", path.display());
                places.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    assert!(places.len() > 300, "{}", places.len());
    for (name, places) in places {
        assert!(
            places.len() == 1,
            "{name} is declared {} times: {places:?}",
            places.len()
        );
        assert!(!STANDARD.contains(&&*name), "{name} hides a type of std: {places:?}");
    }
}

#[test]
fn what_a_line_declares() {
    assert_eq!(declared("    pub(in super::super) struct Inner<'a> {"), Some("Inner"));
    assert_eq!(declared("pub trait Tables: Sized {"), Some("Tables"));
    assert_eq!(declared("type Pair = (IpNet, IpNet);"), Some("Pair"));
    assert_eq!(declared("    type Err = Expected;"), None);
    assert_eq!(declared("/// A struct Other"), None);
}
