//! A configuration that means nothing: one line with the place, what is wrong and what would be right, and exit code 2.
use super::peer::{Crihook, Stand, process, within};

/// Starts crihook with this config file; its exit code and its one line.
async fn refused(text: &str) -> (String, String) {
    let stand = Stand::empty();
    let file = stand.dir().join("config.yaml");
    std::fs::write(&file, text).expect("a file");
    let mut crihook = Crihook::spawn(process::serve(stand.dir()).set("--config", &file).command());
    let code = within("the exit", crihook.exit()).await;
    let log = crihook.log();
    assert_eq!((code, log.len()), (Some(2), 1), "{text:?} gave {log:#?}");
    assert!(!stand.front.exists(), "nothing was begun");
    let place = format!("{}:", file.display());
    let said = log[0].split_once(&place).unwrap_or_else(|| panic!("names the file: {}", log[0])).1;
    let (line, rest) = said.split_once(':').expect("a line");
    let (column, message) = rest.split_once(':').expect("a column");
    (format!("{line}:{column}"), message.trim().to_owned())
}

#[tokio::test]
async fn an_unknown_key_is_named_with_its_place_and_the_keys_there_are() {
    let (place, message) = refused("logLevel: info\nlistenOn: /run/x.sock\n").await;
    assert_eq!(place, "2:1");
    assert!(message.contains("listenOn") && message.contains("runtimeEndpoint"), "{message}");
    // A key of the wrong case is an unknown key, too.
    assert!(refused("log_level: info\n").await.1.contains("logLevel"));
}

#[tokio::test]
async fn a_wrong_type_is_named_with_its_place_and_what_would_be_right() {
    let (place, message) = refused("# where\nlisten: [a, b]\n").await;
    assert!(place.starts_with("2:"), "{place}");
    assert!(message.contains("a single value"), "{message}");
    let (place, message) = refused("metricsAddr: {port: 1}\n").await;
    assert!(place.starts_with("1:"), "{place}");
    assert!(message.contains("a single value"), "{message}");
    assert!(refused("- listen\n- /run/x.sock\n").await.0.starts_with("1:"));
}

#[tokio::test]
async fn a_wrong_unit_or_value_is_named_with_its_place_and_what_would_be_right() {
    for wrong in ["10 parsecs", "600", "-1s", "soon"] {
        let (place, message) = refused(&format!("logLevel: info\ndrainTimeout: {wrong}\n")).await;
        assert!(place.starts_with("2:"), "{wrong}: {place}");
        assert!(message.contains(wrong) || message.contains("duration"), "{wrong}: {message}");
        assert!(message.contains("10m"), "{wrong}: says what would be right: {message}");
    }
    for (wrong, hint) in [
        ("logLevel: loud", "debug"),
        ("metricsAddr: 9797", "127.0.0.1:9797"),
        ("metricsAddr: localhost", "127.0.0.1:9797"),
        ("listen: tcp://10.0.0.1:80", "unix:///"),
        ("runtimeEndpoint: run/x.sock", "unix:///"),
    ] {
        let (_, message) = refused(&format!("{wrong}\n")).await;
        assert!(message.contains(hint), "{wrong}: says what would be right: {message}");
    }
}

#[tokio::test]
async fn text_that_is_no_yaml_is_named_with_its_place() {
    let (place, _) = refused("listen: /run/x.sock\nlogLevel: \"info\n").await;
    assert!(place.starts_with("2:") || place.starts_with("3:"), "{place}");
    refused("listen: /run/x.sock\nlisten: /run/y.sock\n").await;
    refused("a: &a [*a, *a]\n").await;
}

#[tokio::test]
async fn a_config_file_that_cannot_be_read_is_named() {
    let stand = Stand::empty();
    for (path, why) in [(stand.dir().join("missing.yaml"), "No such file"), (stand.dir().to_owned(), "directory")] {
        let mut crihook = Crihook::spawn(process::serve(stand.dir()).set("--config", &path).command());
        let code = within("the exit", crihook.exit()).await;
        let log = crihook.log();
        assert_eq!((code, log.len()), (Some(2), 1), "{log:#?}");
        assert!(log[0].contains(&path.display().to_string()) && log[0].contains(why), "{log:?}");
    }
}

#[tokio::test]
async fn an_empty_file_sets_nothing_and_is_no_mistake() {
    for text in ["", "\n\n", "# drainTimeout: 1m\n", "---\n", "{}\n"] {
        let stand = Stand::empty();
        let file = stand.dir().join("config.yaml");
        std::fs::write(&file, text).expect("a file");
        let crihook = Crihook::serving_as(process::serve(stand.dir()).set("--config", &file).command()).await;
        assert_eq!(crihook.said("serving").await["listen"], format!("unix://{}", stand.front.display()));
    }
}

/// A flag overrides the environment, the environment overrides the file.
#[tokio::test]
async fn flags_stand_over_the_environment_and_the_environment_over_the_file() {
    let stand = Stand::empty();
    let at = |name: &str| stand.dir().join(name).display().to_string();
    let file = stand.dir().join("config.yaml");
    let text = format!(
        "listen: unix://{}\nruntimeEndpoint: {}\nmetricsAddr: 127.0.0.1:0\nadminSocket: {}\nstateDir: {}\nhooksDir: {}\n",
        at("from-file.sock"),
        at("runtime-from-file.sock"),
        at("admin.sock"),
        at("state"),
        at("hooks.d"),
    );
    std::fs::write(&file, text).expect("a file");
    let expect = async |flag: Option<&str>, environment: Option<&str>, listen: &str| {
        let mut flags = process::serve(stand.dir());
        for flag in ["--runtime-endpoint", "--metrics-addr", "--admin-socket", "--state-dir", "--hooks-dir", "--listen"]
        {
            flags.without(flag);
        }
        flags.set("--config", &file);
        if let Some(name) = flag {
            flags.set("--listen", at(name));
        }
        let mut command = flags.command();
        if let Some(name) = environment {
            command.env("CRIHOOK_LISTEN", format!("unix://{}", at(name)));
        }
        let crihook = Crihook::serving_as(command).await;
        let serving = crihook.said("serving").await;
        assert_eq!(serving["listen"], format!("unix://{}", at(listen)));
        assert_eq!(serving["runtime"], format!("unix://{}", at("runtime-from-file.sock")));
        assert!(stand.dir().join(listen).exists());
        assert!(stand.dir().join("state").is_dir(), "the file's state directory");
    };
    expect(None, None, "from-file.sock").await;
    expect(None, Some("from-environment.sock"), "from-environment.sock").await;
    expect(Some("from-flag.sock"), Some("from-environment.sock"), "from-flag.sock").await;
}

#[tokio::test]
async fn wrong_flags_and_wrong_environment_are_named_with_what_would_be_right() {
    let stand = Stand::empty();
    let run = async |command: std::process::Command| {
        let mut crihook = Crihook::spawn(command);
        let code = within("the exit", crihook.exit()).await;
        (code, crihook.log().join("\n"))
    };
    let mut flags = process::serve(stand.dir());
    let (code, said) = run(flags.set("--drain-timeout", "10 parsecs").command()).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--drain-timeout") && said.contains("10m"), "{said}");

    let (code, said) = run(process::serve(stand.dir()).set("--listen", "tcp://10.0.0.1:80").command()).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--listen") && said.contains("unix:///"), "{said}");

    let mut command = process::serve(stand.dir()).without("--metrics-addr").command();
    command.env("CRIHOOK_METRICS_ADDR", "nine");
    let (code, said) = run(command).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--metrics-addr") && said.contains("nine"), "{said}");

    let mut command = process::bare();
    command.args(["serve", "--liston", "/run/x.sock"]);
    let (code, said) = run(command).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--liston") && said.contains("--listen"), "{said}");

    let mut command = process::bare();
    command.arg("surve");
    let (code, said) = run(command).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("surve") && said.contains("serve"), "{said}");
}
