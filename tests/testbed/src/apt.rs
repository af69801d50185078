//! Debian packages fetched through apt's signed indexes into the cache, without touching the system's own apt state.
