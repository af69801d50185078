//! The API as a real API server has it: what it stores, fills in and refuses, and who may do what.
//!
//! * [`fixture`]: the API server that all tests share, and how objects get there.
//! * [`refusals`]: every rule of the schema, with what keeps it and what breaks it.
//! * [`life`]: defaults, what cannot be changed later, status, columns.
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
