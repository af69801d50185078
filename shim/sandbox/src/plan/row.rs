//! What a row of the reference page says of a field of the OCI runtime spec.

use std::fmt;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// What it says holds.
    Honoured,
    /// It says nothing that a guest could notice, and is passed over.
    LeftOut,
    /// A container that uses it is not created; the message names the field.
    Refused,
}

impl fmt::Display for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Honoured => "honoured",
            Self::LeftOut => "left out",
            Self::Refused => "refused",
        })
    }
}

/// One row of the reference page.
#[derive(Debug, Clone, Copy)]
pub struct SpecField {
    /// The field, from the spec's top; `[]` stands for each item of a list.
    pub field: &'static str,
    /// Which of its values the row is about; empty: all.
    pub values: &'static str,
    /// What becomes of it.
    pub handling: Handling,
    /// How, or why not.
    pub how: &'static str,
    /// The tests that hold it.
    pub tests: &'static [&'static str],
}

/// The row of a field that is refused whatever it says.
pub(super) const fn refused(field: &'static str, how: &'static str) -> SpecField {
    SpecField {
        field,
        values: "",
        handling: Handling::Refused,
        how,
        tests: &["what_is_not_served_is_refused_by_its_field"],
    }
}

/// The row of some values of a field, which are refused.
pub(super) const fn refused_in_part(
    field: &'static str,
    values: &'static str,
    how: &'static str,
) -> SpecField {
    SpecField {
        field,
        values,
        handling: Handling::Refused,
        how,
        tests: &["what_is_not_served_is_refused_by_its_field"],
    }
}

/// The row of a field that the host serves, beside the sandbox. That it changes nothing in the plan
/// is tested too, by `what_the_host_serves_changes_nothing_in_the_plan`.
pub(super) const fn by_the_host(
    field: &'static str,
    how: &'static str,
    tests: &'static [&'static str],
) -> SpecField {
    SpecField {
        field,
        values: "",
        handling: Handling::Honoured,
        how,
        tests,
    }
}

/// The row of the mappings of a bind mount.
pub(super) const fn mapped(field: &'static str) -> SpecField {
    SpecField {
        field,
        values: "of a bind mount: those of `linux`",
        handling: Handling::Honoured,
        how: "an idmapped mount of the user namespace; what is mounted below it keeps its owners",
        tests: &[
            "files_are_mapped_as_the_containers_users_are",
            "files_of_a_pod_with_its_own_users_belong_to_them",
        ],
    }
}

/// The row of the mappings of the user namespace.
pub(super) const fn users(field: &'static str) -> SpecField {
    SpecField {
        field,
        values: "beside a `user` namespace",
        handling: Handling::Honoured,
        how: "whose the device nodes and files are that the set-up makes; the namespace has its \
              own from who made it",
        tests: &["what_is_made_for_users_of_a_namespace_belongs_to_them"],
    }
}
