//! The programs that people use with what the project hands out, and that the tests use in the same way.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::go_programs::{Module, Set, Source, word_after};

macro_rules! tool {
    ($(#[$doc:meta])* $name:ident, $program:literal, $package:literal, version of $required:literal, tags $tags:literal) => {
        $(#[$doc])*
        pub static $name: Tool = Tool {
            set: Set {
                what: $program,
                name: || {
                    let version = word_after(include_str!(concat!("tools/", $program, "/go.mod")), $required);
                    format!(concat!($program, "-{}"), version)
                },
                sources: &[Source {
                    name: $program,
                    module: &Module {
                        name: $program,
                        go_mod: include_str!(concat!("tools/", $program, "/go.mod")),
                        go_sum: include_str!(concat!("tools/", $program, "/go.sum")),
                        tools_go: include_str!(concat!("tools/", $program, "/tools.go")),
                        tags: $tags,
                        variables: Vec::new,
                    },
                    package: $package,
                }],
                takes: "some minutes",
                instead_of_go: "",
            },
            path: OnceLock::new(),
        };
    };
}

tool!(
    /// Installs charts.
    HELM, "helm", "helm.sh/helm/v4/cmd/helm", version of "require helm.sh/helm/v4 ", tags ""
);
tool!(
    /// Writes the chart's README from its values.
    HELM_DOCS, "helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs",
    version of "require github.com/norwoodj/helm-docs ", tags ""
);

tool!(
    /// Checks alerting rules and runs their tests. The tag leaves the clients of many clouds out.
    PROMTOOL, "promtool", "github.com/prometheus/prometheus/cmd/promtool",
    version of "require github.com/prometheus/prometheus ", tags "remove_all_sd"
);
tool!(
    /// Decodes resources of other projects strictly into the types that they publish.
    STRICT_DECODE, "strict-decode", ".",
    version of "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring ", tags ""
);

/// A program that is built from its Go module by the first test that needs it.
pub struct Tool {
    set: Set,
    path: OnceLock<Result<PathBuf, String>>,
}

impl Tool {
    /// The program with these arguments, without settings of the user's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path());
        command.args(args);
        command
    }

    /// Runs the program; panics with what it said unless it succeeds.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            output.status.success(),
            "{} {args:?}: {said}",
            self.set.what
        );
        String::from_utf8(output.stdout).expect("the program prints text")
    }

    /// Runs the program to its end.
    pub fn output(&self, args: &[&str]) -> Output {
        let output = self.command(args).output();
        output.unwrap_or_else(|error| panic!("{} does not run: {error}", self.set.what))
    }

    /// A failure is kept as well: building again for each test would take long and fail again.
    fn path(&self) -> PathBuf {
        let path = self.path.get_or_init(|| {
            let directory = self.set.locate_or_build(&crate::cluster::say);
            directory
                .map(|directory| directory.join(self.set.what))
                .map_err(|error| error.to_string())
        });
        match path {
            Ok(path) => path.clone(),
            Err(message) => panic!("this test needs {}: {message}", self.set.what),
        }
    }
}
