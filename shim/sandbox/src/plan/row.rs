//! Rows of the reference page on fields of the OCI runtime spec.

use std::fmt;

/// The handling of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Its value takes effect.
    Honoured,
    /// It is ignored: a guest could not notice it.
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
    /// The values that the row is about; empty: all.
    pub values: &'static str,
    /// The handling.
    pub handling: Handling,
    /// Details, or the reason.
    pub how: &'static str,
    /// The tests that prove it.
    pub tests: &'static [&'static str],
}

/// Makes the row of a field that is refused with any value.
pub(super) const fn refused(field: &'static str, how: &'static str) -> SpecField {
    SpecField {
        field,
        values: "",
        handling: Handling::Refused,
        how,
        tests: &["unsupported_fields_are_refused_by_name"],
    }
}

/// Makes the row of some values of a field, which are refused.
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
        tests: &["unsupported_fields_are_refused_by_name"],
    }
}

/// Makes the row of a field that the host handles outside the sandbox. The test
/// `fields_that_the_host_handles_change_nothing_in_the_plan` covers it too.
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

/// Makes the row of the mappings of a bind mount.
pub(super) const fn mapped(field: &'static str) -> SpecField {
    SpecField {
        field,
        values: "of a bind mount: those of `linux`",
        handling: Handling::Honoured,
        how: "an idmapped mount of the user namespace; mounts below it keep their owners",
        tests: &[
            "files_are_mapped_as_the_containers_users_are",
            "files_of_a_pod_with_its_own_users_belong_to_them",
        ],
    }
}

/// Makes the row of the mappings of the user namespace.
pub(super) const fn users(field: &'static str) -> SpecField {
    SpecField {
        field,
        values: "beside a `user` namespace",
        handling: Handling::Honoured,
        how: "they give the owners of the device nodes and files that the set-up makes; the \
              namespace has its mappings already",
        tests: &["files_made_by_the_set_up_belong_to_users_of_the_namespace"],
    }
}
