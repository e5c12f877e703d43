//! Enums whose variants are the values of a label.

/// Declares an enum together with its label values, so that neither can be extended without the other: `ALL` lists the
/// variants in the order of declaration, `label` gives a variant's value.
macro_rules! label_values {
    ($(#[$enum_doc:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal),* $(,)? }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every variant, in the order of declaration.
            #[allow(dead_code, reason = "not every set of values is listed somewhere")]
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The value of the label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

pub(crate) use label_values;
