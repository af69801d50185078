//! The API on a real API server: stored objects, defaults, refusals, and rights.
//!
//! * [`fixture`]: the API server that all tests share, and the requests to it.
//! * [`refusals`]: every rule of the schema, with specs that keep and that break it.
//! * [`life`]: defaults, immutable fields, status, columns.
//! * [`rights`]: the roles that are generated for the chart.
//! * [`samples`]: the manifests of `docs/samples`.

#[path = "api/fixture.rs"]
mod fixture;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/life.rs"]
mod life;
#[path = "api/rights.rs"]
mod rights;
#[path = "api/samples.rs"]
mod samples;
