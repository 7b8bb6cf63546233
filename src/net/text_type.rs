//! Types that are one text in a record or in the settings.

/// A type that holds one text: shown as it is, and written as it is. With `parsed`, it is read by
/// its `FromStr`; otherwise it has a `TryFrom<String>` of its own.
macro_rules! text_type {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
    ($name:ident, parsed) => {
        $crate::net::text_type!($name);
        $crate::net::parsed_type!($name);
    };
}

/// A type that is read by its `FromStr` and written by its `Display`.
macro_rules! displayed_type {
    ($name:ident) => {
        $crate::net::parsed_type!($name);

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// A type that is read by its `FromStr`.
macro_rules! parsed_type {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = $crate::net::Expected;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

pub(crate) use {displayed_type, parsed_type, text_type};
