//! Which scenarios a command line chooses.

use super::families::{Family, families};
use super::scenario::Scenario;
use super::server::Mode;
use super::workload::Arrival;

/// What the command line says in place of the scenarios.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides {
    pub rho: Option<f64>,
    pub mode: Option<Mode>,
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScenarioError {
    #[error(
        "--scenario: found {found:?}, allowed: all, list, {allowed}, or one of these and its load, as mixed_86"
    )]
    Unknown { found: String, allowed: String },
    #[error("--scenario trace needs --trace FILE; mixed needs no file")]
    NoTrace,
}

/// Those that the command line asks for: `all`, a family, or one; without a name, the trace if
/// there is one, else all.
pub fn choose(
    name: Option<&str>,
    trace: Option<Vec<Arrival>>,
    overrides: &Overrides,
) -> Result<Vec<Scenario>, ScenarioError> {
    let has_trace = trace.is_some();
    let name = name.unwrap_or(if has_trace { "trace" } else { "all" });
    if name == "trace" && !has_trace {
        return Err(ScenarioError::NoTrace);
    }
    let families = families(trace);
    let mut chosen = Vec::new();
    for family in &families {
        for &rho in &family.rhos {
            let scenario = family.at(rho);
            if name == "all" || name == family.base.name || name == scenario.name {
                chosen.push(scenario);
            }
        }
    }
    if chosen.is_empty() {
        let names: Vec<&str> = families.iter().map(|family| &*family.base.name).collect();
        return Err(ScenarioError::Unknown {
            found: name.to_owned(),
            allowed: names.join(", "),
        });
    }
    if let Some(rho) = overrides.rho {
        let at_rho = families.iter().map(|family| family.at(rho));
        let is_chosen = |one: &Scenario| chosen.iter().any(|other| other.about == one.about);
        chosen = at_rho.filter(is_chosen).collect();
    }
    if let Some(mode) = overrides.mode {
        chosen.iter_mut().for_each(|scenario| scenario.mode = mode);
    }
    Ok(chosen)
}

/// All scenarios that need no file, a line each.
pub fn list() -> String {
    let line = |family: Family| format!("{:<22} {}\n", family.base.name, family.base.about);
    families(None).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: Option<&str>, trace: Option<Vec<Arrival>>, rho: Option<f64>) -> Vec<String> {
        let overrides = Overrides { rho, mode: None };
        let chosen = choose(name, trace, &overrides).expect("scenarios");
        chosen.into_iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn a_family_a_member_or_all_can_be_chosen() {
        assert_eq!(
            names(Some("mixed"), None, None),
            ["mixed_80", "mixed_86", "mixed_92"]
        );
        assert_eq!(names(Some("image_86"), None, None), ["image_86"]);
        assert_eq!(names(Some("mixed"), None, Some(0.9)), ["mixed_90"]);
        assert_eq!(names(Some("slow"), None, Some(0.72)), ["slow"]);
        assert_eq!(names(None, Some(Vec::new()), None), ["trace"]);
        let all = names(None, None, None);
        assert!(all.len() > 20 && !all.contains(&"trace".to_owned()));
        assert_eq!(
            names(Some("all"), Some(Vec::new()), None).len(),
            all.len() + 1
        );
    }

    #[test]
    fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let unknown = choose(Some("mixd"), None, &Overrides::default());
        let text = unknown.expect_err("unknown").to_string();
        assert!(
            text.contains("\"mixd\"") && text.contains("black_hole"),
            "{text}"
        );
        let no_trace = choose(Some("trace"), None, &Overrides::default());
        assert_eq!(no_trace, Err(ScenarioError::NoTrace));
    }

    #[test]
    fn names_come_apart_into_family_and_load() {
        for scenario in choose(None, None, &Overrides::default()).expect("all") {
            let family = scenario.family();
            assert!(
                families(None).iter().any(|one| one.base.name == family),
                "{family}"
            );
        }
    }
}
