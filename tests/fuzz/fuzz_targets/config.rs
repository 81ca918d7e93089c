//! Configuration of agent and collector: a configuration, or mistakes that show no card number.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::config::Config;
use pcigate_collector::config;
use pcigate_fuzz::cards;
use pcigate_fuzz::damage::{Patch, YAML_WORDS, damaged};

const COLLECTOR: &str = "listen: 0.0.0.0:7443\nstateDir: /s\ntlsDir: /t\norigin: l.example/a\n\
    store: {kind: local}\n";

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Agent(Vec<Patch<'a>>),
    Collector(Vec<Patch<'a>>),
}

fuzz_target!(|input: Input<'_>| {
    let text = |valid: &str, patches: &[Patch<'_>]| {
        let bytes = damaged(valid.as_bytes(), YAML_WORDS, patches);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mistakes = match input {
        Input::Agent(patches) => {
            Config::parse("agent.yaml", &text(pcigate_agent::config::DOCUMENTED, &patches)).err()
        }
        Input::Collector(patches) => {
            config::parse("collector.yaml", &text(COLLECTOR, &patches)).err()
        }
    };
    if let Some(mistakes) = mistakes {
        let message = mistakes.to_string();
        assert!(!message.is_empty() && !cards::shown_in(message.as_bytes()), "{message}");
    }
});
