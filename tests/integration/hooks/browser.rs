//! A browser: Debian's chromium without a window, driven over `WebDriver`.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::common::log::LoggingPrefsLogLevel;
use thirtyfour::{ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};

use super::until;

/// It opens nothing by itself, and leaves nothing outside of its profile.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page.
pub struct Browser {
    page: WebDriver,
    _driver: Driver,
    _profile: TempDir,
}

/// What takes orders for a browser.
struct Driver(Child);

impl Driver {
    /// Starts it, and gives its port.
    fn start(profile: &TempDir) -> (Self, String) {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, with the browser in it.
            .process_group(0)
            .spawn()
            .expect("this test needs chromedriver (Debian's packages chromium and chromium-driver)");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let driver = Self(child);
        let mut port = said.lines().map_while(Result::ok).filter_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.next().expect("it says its port");
        (driver, port)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

impl Browser {
    /// Opens a page, as wide as a desktop.
    pub async fn open(url: &str) -> Self {
        Self::start(url, true).await
    }

    /// The same for a reader who lets no page run scripts; the test's own run all the same.
    pub async fn open_without_script(url: &str) -> Self {
        Self::start(url, false).await
    }

    async fn start(url: &str, scripts: bool) -> Self {
        // The client wants one though it speaks plain HTTP. Another test may have said so already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let profile = tempfile::Builder::new().prefix("crihook-browser-").tempdir().expect("a directory");
        let (driver, port) = Driver::start(&profile);
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary("/usr/bin/chromium").expect("a path");
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All).expect("a level");
        for flag in FLAGS {
            wanted.add_arg(flag).expect("a flag");
        }
        wanted.add_arg(&format!("--user-data-dir={}", profile.path().display())).expect("a flag");
        let page = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await.expect("chromium starts");
        let browser = Self { page, _driver: driver, _profile: profile };
        browser.wide(1280).await;
        browser.command("Emulation.setScriptExecutionDisabled", json!({"value": !scripts})).await;
        browser.page.goto(url).await.expect("a page");
        browser
    }

    /// Closes it.
    pub async fn close(self) {
        self.page.clone().quit().await.expect("the browser closes");
    }

    /// What a script gives.
    pub async fn ask(&self, script: &str) -> Value {
        let answer = self.page.execute(format!("return {script}"), vec![]).await.expect("the script runs");
        answer.json().clone()
    }

    /// Waits until a script gives this.
    pub async fn shows(&self, script: &str, expected: Value) {
        until(&format!("{script} to be {expected}"), || async {
            let found = self.ask(script).await;
            if found == expected { Ok(()) } else { Err((found, self.text("main").await)) }
        })
        .await;
    }

    /// The text that can be seen of what a selector finds first; empty if it finds nothing.
    pub async fn text(&self, selector: &str) -> String {
        let found = self.ask(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        found.as_str().expect("a text").to_owned()
    }

    /// The text of a cell, by its row's heading.
    pub fn cell(row: &str, name: &str) -> String {
        format!(
            "[...document.querySelectorAll('tbody tr')].find(row => row.querySelector('th').innerText.startsWith({row}))\
             ?.querySelector('[data-name={name}]')?.innerText ?? null",
            row = json!(row)
        )
    }

    /// How wide the window is, in CSS pixels.
    pub async fn wide(&self, width: u32) {
        let screen = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// What the reader likes: `dark` or `light`.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", features).await;
    }

    /// The whole page as a picture, for people, below `target/screenshots`.
    pub async fn picture(&self, name: &str) {
        let taken = self.command("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        let picture = BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64");
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("the directory takes a file");
    }

    /// What the console says that is no mere information.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.page.browser_log().await.expect("the console");
        let bad = said.into_iter().filter(|entry| !matches!(entry.level.as_str(), "INFO" | "DEBUG"));
        bad.map(|entry| entry.message).collect()
    }

    async fn command(&self, method: &str, parameters: Value) -> Value {
        self.page.cdp().send_raw(method, parameters).await.expect("the browser does it")
    }
}

impl Drop for Browser {
    /// Of a test that has failed: the client would wait for the browser's farewell, which is killed.
    fn drop(&mut self) {
        let _ = self.page.clone().leak();
    }
}
