//! Installations and removals on nodes made of folders: real stages, files, records and edits of
//! configurations, a containerd and a systemd that are played. What a node can do to an installer
//! is done to it here: kills at every step, full disks, restarts that fail, guests that do not run.

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
