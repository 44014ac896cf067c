//! Policies: any text is either in order or told what is wrong with it, at a place that it has.
#![no_main]

use std::path::Path;

use crihook::hooks::Defaults;
use crihook::hooks::policy::parse;
use crihook::lifecycle::Point;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = Path::new("fuzz.yaml");
    match parse(text, file, &Defaults::default()) {
        Ok(loaded) => {
            let again = parse(text, file, &Defaults::default()).expect("what is in order stays so");
            assert_eq!(loaded.set.hash, again.set.hash);
            for hook in loaded.set.policies.iter().flat_map(|policy| &policy.hooks) {
                assert!(Point::ALL.contains(&hook.point));
                let _ = (hook.action.endpoint(), hook.action.wants_address());
            }
            loaded.warnings.iter().for_each(|warning| told(text, &warning.to_string(), warning.line));
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a refusal says why");
            mistakes.iter().for_each(|mistake| told(text, &mistake.to_string(), mistake.line));
        }
    }
});

fn told(text: &str, words: &str, line: u64) {
    assert!(words.contains("fuzz.yaml"), "{words}");
    // To YAML a carriage return ends a line too. One more: what is missing may be missing at the end.
    let lines = text.split(['\n', '\r']).count() as u64;
    assert!(line <= lines + 1, "line {line} of {lines}");
}
