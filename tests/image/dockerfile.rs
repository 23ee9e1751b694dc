use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// The stages of the `Dockerfile`.
pub struct Dockerfile(Vec<Stage>);

/// The instructions of a stage: name and arguments.
#[derive(Default)]
pub struct Stage(Vec<(String, String)>);

// === impl Dockerfile ===

impl Dockerfile {
    pub fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile");
        let text = std::fs::read_to_string(path).expect("there is a Dockerfile");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let continued = Regex::new(r"\s*\\\n\s*").expect("a pattern");
        let mut stages = Vec::new();
        for line in continued.replace_all(&text, " ").lines() {
            let Some((name, arguments)) = line.split_once(' ') else {
                continue;
            };
            if name == "FROM" {
                stages.push(Stage::default());
            }
            let stage = stages.last_mut().expect("FROM comes first");
            stage.0.push((name.to_owned(), arguments.to_owned()));
        }
        Self(stages)
    }

    pub fn first_stage(&self) -> &Stage {
        self.0.first().expect("there is a stage")
    }

    pub fn last_stage(&self) -> &Stage {
        self.0.last().expect("there is a stage")
    }
}

// === impl Stage ===

impl Stage {
    /// The arguments of every instruction of this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let instructions = self.0.iter();
        instructions
            .filter(|(other, _)| other == name)
            .map(|(_, arguments)| arguments.clone())
            .collect()
    }

    /// The names of all instructions.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        let label = Regex::new(r#"([a-z.]+)="([^"]*)""#).expect("a pattern");
        let text = self.all("LABEL").join(" ");
        label
            .captures_iter(&text)
            .map(|found| (found[1].to_owned(), found[2].to_owned()))
            .collect()
    }
}
