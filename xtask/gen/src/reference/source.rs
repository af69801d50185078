//! Comments of Rust code, for pages that repeat them. The code must be formatted by rustfmt.

/// A string constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) comment: String,
}

/// A variant of an enum, without its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) comment: String,
}

/// Returns the public string constants of `source`.
pub(super) fn constants(source: &str) -> Vec<Constant> {
    let constant = |(comment, line): (String, &str)| {
        let (name, value) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some(Constant {
            name: name.to_owned(),
            value: value.strip_suffix("\";")?.to_owned(),
            comment,
        })
    };
    commented(source.lines())
        .into_iter()
        .filter_map(constant)
        .collect()
}

/// Returns the variants of the enum `name` in `source`.
pub(super) fn variants(source: &str, name: &str) -> Vec<Variant> {
    let opening = format!("pub enum {name} {{");
    let body = source
        .lines()
        .skip_while(|line| *line != opening)
        .skip(1)
        .take_while(|line| *line != "}");
    // Variants are indented by four columns, their fields by more.
    let body = body
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with([' ', '}']));
    let variant = |(comment, line): (String, &str)| {
        let name = line
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .next()?;
        (!name.is_empty()).then(|| Variant {
            name: name.to_owned(),
            comment,
        })
    };
    commented(body).into_iter().filter_map(variant).collect()
}

/// Returns each line that has a doc comment, with the comment joined to one line.
fn commented<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, &'a str)> {
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in lines {
        match line.strip_prefix("///") {
            Some(text) => comment.push(text.trim()),
            // Attributes are between a comment and its item.
            None if line.starts_with("#[") || line.starts_with("//") => {}
            None if comment.is_empty() => {}
            None => found.push((
                std::mem::take(&mut comment).join(" ").trim().to_owned(),
                line,
            )),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
//! A module.

/// First line
/// and second.
pub const A: &str = \"a.example/b\";
/// A number.
pub const N: u32 = 1;

/// An enum.
#[derive(Debug)]
pub enum Word {
    /// The first.
    #[default]
    One,
    // Not a documentation comment.
    /// The second,
    /// with a field.
    Two {
        /// The field.
        field: String,
    },
    /// The third.
    Three(u8),
}

/// Another.
pub enum Other {
    /// Not asked for.
    X,
}
";

    #[test]
    fn string_constant_is_found_with_its_comment() {
        let expected = Constant {
            name: "A".to_owned(),
            value: "a.example/b".to_owned(),
            comment: "First line and second.".to_owned(),
        };
        assert_eq!(constants(SOURCE), [expected]);
    }

    #[test]
    fn variants_are_found_without_their_fields() {
        let found: Vec<(String, String)> = variants(SOURCE, "Word")
            .into_iter()
            .map(|variant| (variant.name, variant.comment))
            .collect();
        let expected = [
            ("One", "The first."),
            ("Two", "The second, with a field."),
            ("Three", "The third."),
        ];
        assert_eq!(
            found,
            expected.map(|(name, comment)| (name.to_owned(), comment.to_owned()))
        );
    }
}
