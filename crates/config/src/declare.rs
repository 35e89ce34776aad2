//! The macro that turns a field's one declaration into a struct field and its [`crate::FieldSpec`].

use crate::field::FieldSpec;
use crate::field_value::{FieldValue, Value};
use crate::node::Node;

/// Access to the fields of a declared struct by name.
pub(crate) trait Fields {
    /// In declaration order.
    fn specs(&self) -> &'static [FieldSpec];

    /// The value of a field of this very struct (not of its sections).
    fn field(&self, name: &str) -> Option<Value>;

    /// Reads a field; the answer is a note when an outdated value was replaced.
    fn read_field(&mut self, name: &str, node: &Node) -> Result<Option<String>, FieldFault>;
}

/// Why a field could not be read.
#[derive(Debug)]
pub(crate) enum FieldFault {
    /// There is no such field.
    Unknown,
    /// It does not take this value.
    Value {
        /// The end of "expected …".
        expected: String,
    },
}

/// Reads a value and checks its range.
pub(crate) fn read_checked<T: FieldValue>(
    spec: &FieldSpec,
    node: &Node,
) -> Result<(T, Option<String>), FieldFault> {
    match T::read(node) {
        Ok(value) => {
            let number = match value.value() {
                Value::Int(whole) => Some(whole as f64),
                Value::Float(number) => Some(number),
                _ => None,
            };
            match (number, spec.facets.limit) {
                (Some(number), Some(limit)) if !limit.contains(number) => {
                    Err(FieldFault::Value { expected: spec.allowed() })
                }
                _ => Ok((value, T::remark(node))),
            }
        }
        Err(mismatch) => match T::read_legacy(node) {
            Some(value) => {
                let note = format!("{node} no longer exists; {} is used instead", value.value());
                Ok((value, Some(note)))
            }
            None => {
                let addition = mismatch.0.map(|text| format!(" ({text})")).unwrap_or_default();
                Err(FieldFault::Value { expected: format!("{}{addition}", spec.allowed()) })
            }
        },
    }
}

/// Declares a struct of fields: `/// help`, then `name: type = default => facets;` (facets are optional).
///
/// A trailing `sections { … }` block adds members that are declared structs themselves.
macro_rules! fields {
    (
        $(#[doc = $struct_doc:literal])+
        pub struct $Struct:ident in $section:literal {
            $( $(#[doc = $doc:literal])+ $name:ident : $ty:ty = $default:expr $(=> $facets:expr)? ; )*
        }
        $( sections { $( $(#[doc = $member_doc:literal])+ $member:ident : $Member:ty ; )* } )?
    ) => {
        $(#[doc = $struct_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Struct {
            $( $(#[doc = $doc])+ pub $name: $ty, )*
            $( $( $(#[doc = $member_doc])+ pub $member: $Member, )* )?
        }

        impl Default for $Struct {
            fn default() -> Self {
                Self {
                    $( $name: $default, )*
                    $( $( $member: <$Member>::default(), )* )?
                }
            }
        }

        $( impl $Struct {
            /// Names of the sections, in file order.
            pub(crate) const SECTIONS: &'static [&'static str] = &[$( stringify!($member) ),*];

            pub(crate) fn section(&self, name: &str) -> Option<&dyn $crate::declare::Fields> {
                match name {
                    $( stringify!($member) => Some(&self.$member), )*
                    _ => None,
                }
            }

            pub(crate) fn section_mut(&mut self, name: &str) -> Option<&mut dyn $crate::declare::Fields> {
                match name {
                    $( stringify!($member) => Some(&mut self.$member), )*
                    _ => None,
                }
            }
        } )?

        impl $crate::declare::Fields for $Struct {
            fn specs(&self) -> &'static [$crate::field::FieldSpec] {
                const SPECS: &[$crate::field::FieldSpec] = &[$(
                    $crate::field::FieldSpec {
                        section: $section,
                        name: stringify!($name),
                        kind: <$ty as $crate::field_value::FieldValue>::KIND,
                        default: || {
                            let default: $ty = $default;
                            $crate::field_value::FieldValue::value(&default)
                        },
                        facets: $crate::declare::fields!(@facets $($facets)?),
                        raw_help: concat!($( $doc, "\n" ),+),
                    },
                )*];
                SPECS
            }

            fn field(&self, name: &str) -> Option<$crate::field_value::Value> {
                match name {
                    $( stringify!($name) => Some($crate::field_value::FieldValue::value(&self.$name)), )*
                    _ => None,
                }
            }

            fn read_field(
                &mut self,
                name: &str,
                node: &$crate::node::Node,
            ) -> Result<Option<String>, $crate::declare::FieldFault> {
                let spec = $crate::declare::Fields::specs(self)
                    .iter()
                    .find(|spec| spec.name == name)
                    .ok_or($crate::declare::FieldFault::Unknown)?;
                match name {
                    $( stringify!($name) => {
                        let (value, note) = $crate::declare::read_checked::<$ty>(spec, node)?;
                        self.$name = value;
                        Ok(note)
                    } )*
                    _ => Err($crate::declare::FieldFault::Unknown),
                }
            }
        }
    };
    (@facets) => { $crate::field::facets() };
    (@facets $facets:expr) => { $facets };
}

pub(crate) use fields;
