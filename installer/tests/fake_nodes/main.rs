//! Installations and removals on fake nodes: the stages, files, records and edits are real, systemd
//! and containerd are fakes. The faults are kills at every step, full disks, failed restarts, and
//! guests that do not run.

#[cfg(test)]
mod fake_machine;
#[cfg(test)]
mod fake_node;
#[cfg(test)]
mod success;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod distributions;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod written_back;
#[cfg(test)]
mod messages;
