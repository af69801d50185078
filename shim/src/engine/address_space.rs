//! A limit of the address space (RLIMIT_AS) that is too small for the engine, which reports it as
//! an invalid module.

use rustix::process::{Resource, getrlimit};
use wasmparser::Validator;

use super::NotRunnable;

/// Returns the limit of this process.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Returns the error of a `module` that the engine did not load in a process with this `limit`.
pub(super) fn not_loaded(module: &[u8], reason: String, limit: Option<u64>) -> NotRunnable {
    match limit {
        Some(limit) if Validator::new().validate_all(module).is_ok() => {
            NotRunnable::AddressSpace { limit, reason }
        }
        _ => NotRunnable::Invalid { reason },
    }
}

/// Extends the `reason` why the engine did not instantiate a module in a process with this `limit`.
pub(super) fn not_instantiated(reason: String, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => {
            format!(
                "{reason}\n  the container's RLIMIT_AS allows {limit} bytes of address space: \
                 raise or remove it if memory was refused"
            )
        }
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_of_the_address_space_is_named_where_it_can_be_the_reason() {
        let valid = b"\0asm\x01\0\0\0";
        let refused =
            |module: &[u8], limit: Option<u64>| not_loaded(module, "why".to_owned(), limit);
        let (limit, reason) = (1 << 20, "why".to_owned());
        assert_eq!(
            refused(valid, Some(limit)),
            NotRunnable::AddressSpace {
                limit,
                reason: reason.clone()
            }
        );
        assert_eq!(
            refused(valid, None),
            NotRunnable::Invalid {
                reason: reason.clone()
            }
        );
        assert_eq!(
            refused(b"\0asm\x01\0\0\0\x01", Some(limit)),
            NotRunnable::Invalid { reason }
        );
        let text = refused(valid, Some(limit)).to_string();
        assert!(
            text.contains("RLIMIT_AS allows 1048576 bytes") && text.contains("raise or remove"),
            "{text}"
        );
        assert!(
            not_instantiated("why".to_owned(), Some(limit))
                .contains("RLIMIT_AS allows 1048576 bytes")
        );
        assert_eq!(not_instantiated("why".to_owned(), None), "why");
    }
}
