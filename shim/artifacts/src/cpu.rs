//! The processor's features: code that was compiled with more of them ends with SIGILL.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;

/// The kernel's description of all processors.
const CPUINFO: &str = "/proc/cpuinfo";
/// Fields that identify a model, of x86 and of arm64.
const MODEL_FIELDS: &[&str] = &[
    "vendor_id",
    "cpu family",
    "model",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
];
/// Fields with the set of features, of x86 and of arm64.
const FEATURE_FIELDS: &[&str] = &["flags", "Features"];

/// The features that all processors of a machine have, and their models. The text form is part of
/// the key of each artifact: the models, then the features in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuFeatures {
    models: BTreeSet<String>,
    features: BTreeSet<String>,
}

/// The features of the machine are not known, so no compiled code is safe on it.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The kernel's description cannot be read.
    #[error("cannot read the features of the processor in {CPUINFO}: mount /proc")]
    Read(#[source] io::Error),
    /// The description has no features.
    #[error(
        "{CPUINFO} names no features of a processor: only x86-64 and arm64 are supported, and \
         compiled code needs them"
    )]
    NoFeatures,
}

impl CpuFeatures {
    /// Returns those of the running machine.
    pub fn of_this_machine() -> Result<Self, CpuError> {
        let text = fs::read_to_string(CPUINFO).map_err(CpuError::Read)?;
        Self::parse(&text).ok_or(CpuError::NoFeatures)
    }

    /// Reads the kernel's description. None if a processor in it has no features.
    fn parse(text: &str) -> Option<Self> {
        let mut models = BTreeSet::new();
        let mut common: Option<BTreeSet<String>> = None;
        for processor in text.split("\n\n") {
            let fields: Vec<(&str, &str)> = processor
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.trim(), value.trim()))
                .collect();
            // Some architectures end with a block about the whole machine.
            if !fields.iter().any(|(name, _)| *name == "processor") {
                continue;
            }
            let value = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted);
            let model: Vec<&str> = MODEL_FIELDS
                .iter()
                .filter_map(|name| value(name))
                .map(|(_, value)| *value)
                .collect();
            models.insert(model.join("/"));
            let (_, features) = FEATURE_FIELDS.iter().find_map(|name| value(name))?;
            let features: BTreeSet<String> =
                features.split_whitespace().map(str::to_owned).collect();
            common = Some(match common {
                None => features,
                Some(common) => common.intersection(&features).cloned().collect(),
            });
        }
        let features = common.filter(|features| !features.is_empty())?;
        Some(Self { models, features })
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&str> = self.models.iter().map(String::as_str).collect();
        f.write_str(&models.join("+"))?;
        self.features
            .iter()
            .try_for_each(|feature| write!(f, " {feature}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: \
                         85\nmodel name\t: Xeon @ 2.10GHz\ncpu MHz\t: 2100.1\nflags\t\t: fpu sse2 \
                         avx2\nbugs\t: mds\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\ncpu \
                         family\t: 6\nmodel\t\t: 85\ncpu MHz\t: 800.0\nflags\t\t: sse2 fpu\n";
    const ARM: &str = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes\nCPU \
                       implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: \
                       0xd0c\nCPU revision\t: 1\n\nHardware\t: Board\n";

    #[test]
    fn features_are_those_that_all_processors_have() {
        let text = CpuFeatures::parse(INTEL).unwrap().to_string();
        assert_eq!(text, "GenuineIntel/6/85 fpu sse2");
    }

    #[test]
    fn features_of_arm64_are_read_without_the_block_of_the_machine() {
        let text = CpuFeatures::parse(ARM).unwrap().to_string();
        assert_eq!(text, "0x41/8/0x3/0xd0c aes asimd fp");
    }

    #[test]
    fn each_kind_of_core_of_a_machine_is_in_its_features() {
        let little = "processor\t: 1\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: \
                      0xd05\n";
        let text = CpuFeatures::parse(&format!("{ARM}\n{little}")).unwrap();
        assert_eq!(text.to_string(), "0x41/0xd05+0x41/8/0x3/0xd0c asimd fp");
    }

    #[test]
    fn description_without_features_is_refused() {
        for text in [
            "",
            "processor\t: 0\n",
            "flags\t: sse2\n",
            "processor: 0\nflags\t:\n",
        ] {
            assert_eq!(CpuFeatures::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn features_of_this_machine_are_the_same_each_time() {
        let first = CpuFeatures::of_this_machine().unwrap();
        assert_eq!(CpuFeatures::of_this_machine().unwrap(), first);
    }
}
