//! The control plane itself: what the other tests take for granted.

use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, ServiceAccount},
    rbac::v1::{ClusterRole, PolicyRule, Role, RoleBinding, RoleRef, Subject},
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use testkit::{
    self,
    control_plane::{Binaries, ControlPlane, apply_crds, create_namespace, service_account_token},
};

/// Any error, in tests that have nothing to say of their own.
type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Set in the process that `programs_end_with_a_killed_owner` starts and kills.
const OWNER: &str = "WHATSAPP_OPERATOR_TEST_OWNER";

/// Begins the line on which that process says where its programs run.
const OWNER_DIRS: &str = "program directories: ";

#[tokio::test]
async fn is_of_a_supported_version() -> TestResult {
    let client = testkit::shared().await.client().await?;
    let version = client.apiserver_version().await?;
    assert_eq!(version.major, "1");
    let minor: u32 = version.minor.trim_end_matches('+').parse()?;
    assert!(minor >= 31, "{}", version.git_version);
    // Clients such as helm refuse one that is no semantic version.
    let prefix = format!("v1.{minor}.");
    assert!(
        version.git_version.starts_with(&prefix),
        "{}",
        version.git_version
    );
    Ok(())
}

#[tokio::test]
async fn refuses_an_unknown_token() -> TestResult {
    let client = testkit::shared().await.client_for_token("unknown").await?;
    let answer = Api::<Namespace>::all(client)
        .list(&ListParams::default())
        .await;
    assert_eq!(refusal(answer), Some(401));
    Ok(())
}

#[tokio::test]
async fn a_service_account_may_do_what_it_is_granted() -> TestResult {
    let control_plane = testkit::shared().await;
    let admin = control_plane.client().await?;
    let namespace = create_namespace(&admin).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), &namespace);
    let account = ServiceAccount {
        metadata: named("operator"),
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;
    let token = service_account_token(&admin, &namespace, "operator").await?;
    let client = control_plane.client_for_token(&token).await?;
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);

    assert_eq!(
        refusal(config_maps.list(&ListParams::default()).await),
        Some(403)
    );

    grant_listing_config_maps(&admin, &namespace, "operator").await?;
    eventually("listing is allowed", async || {
        config_maps.list(&ListParams::default()).await.is_ok()
    })
    .await;
    let cluster_roles = Api::<ClusterRole>::all(client)
        .list(&ListParams::default())
        .await;
    assert_eq!(refusal(cluster_roles), Some(403));
    Ok(())
}

#[tokio::test]
async fn kubectl_works() -> TestResult {
    let control_plane = testkit::shared().await;
    let namespace = create_namespace(&control_plane.client().await?).await?;
    let output = control_plane
        .kubectl()
        .args([
            "get",
            "namespace",
            &namespace,
            "--output=jsonpath={.metadata.name}",
        ])
        .output()?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), namespace);
    Ok(())
}

#[tokio::test]
async fn a_kubeconfig_for_a_token_has_its_rights() -> TestResult {
    let control_plane = testkit::shared().await;
    let kubeconfig = control_plane.kubeconfig_for_token("unknown")?;
    let output = control_plane
        .kubectl()
        .env("KUBECONFIG", kubeconfig)
        .args(["get", "namespaces"])
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("Unauthorized") || error.contains("logged in"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn an_applied_crd_is_served_to_clients_and_kubectl() -> TestResult {
    let control_plane = testkit::shared().await;
    let client = control_plane.client().await?;
    apply_crds(&client, TEST_CRD).await?;
    apply_crds(&client, TEST_CRD).await?;
    let output = control_plane
        .kubectl()
        .args(["get", "testbedthings"])
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("No resources found"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_program_that_cannot_start_shows_its_log() -> TestResult {
    let dir = tempfile::tempdir()?;
    let etcd = dir.path().join("etcd");
    fs::write(&etcd, "#!/bin/sh\necho out of order >&2\nexit 3\n")?;
    fs::set_permissions(&etcd, fs::Permissions::from_mode(0o755))?;
    let binaries = Binaries {
        etcd,
        ..testkit::binaries().await?
    };
    let error = ControlPlane::start(binaries)
        .await
        .err()
        .ok_or("it started")?
        .to_string();
    assert!(error.contains("etcd ended with exit status 3"), "{error}");
    assert!(error.contains("out of order"), "{error}");
    Ok(())
}

#[tokio::test]
async fn stopping_leaves_nothing_behind() -> TestResult {
    let control_plane = testkit::start().await?;
    let dirs = control_plane.program_dirs().map(Path::to_owned);
    assert!(
        dirs.iter().all(|dir| !processes_in(dir).is_empty()),
        "no process found in {dirs:?}"
    );
    control_plane.stop();
    for dir in &dirs {
        assert!(!dir.exists(), "{} is still there", dir.display());
        assert_eq!(processes_in(dir), Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn programs_end_with_a_killed_owner() -> TestResult {
    if env::var_os(OWNER).is_some() {
        return own_a_control_plane_until_killed().await;
    }
    let mut owner = Command::new(env::current_exe()?)
        .args([
            "--exact",
            "control_plane::programs_end_with_a_killed_owner",
            "--nocapture",
        ])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let dirs = announced_dirs(&mut owner)?;
    let running = dirs.iter().all(|dir| !processes_in(dir).is_empty());
    owner.kill()?; // SIGKILL: the owner cannot clean up.
    owner.wait()?;
    assert!(running, "no process found in {dirs:?}");
    eventually("the programs and their data are gone", async || {
        dirs.iter()
            .all(|dir| !dir.exists() && processes_in(dir).is_empty())
    })
    .await;
    Ok(())
}

async fn own_a_control_plane_until_killed() -> TestResult {
    let control_plane = testkit::start().await?;
    let [etcd, api_server] = control_plane.program_dirs();
    println!("\n{OWNER_DIRS}{} {}", etcd.display(), api_server.display());
    std::future::pending().await
}

fn announced_dirs(owner: &mut Child) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let stdout = owner
        .stdout
        .take()
        .ok_or("the owner's output is not piped")?;
    for line in BufReader::new(stdout).lines() {
        if let Some(dirs) = line?.strip_prefix(OWNER_DIRS) {
            return Ok(dirs.split_whitespace().map(PathBuf::from).collect());
        }
    }
    Err("the owner ended without starting a control plane".into())
}

/// Command lines of the processes whose working directory is `dir`, where `/proc` shows them.
fn processes_in(dir: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let in_dir = processes.filter(|process| {
        // The link of a removed directory ends in " (deleted)".
        fs::read_link(process.path().join("cwd"))
            .is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&*dir.to_string_lossy()))
    });
    in_dir
        .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
        .map(|command| command.replace('\0', " "))
        .collect()
}

/// The status code of an answer that is an error.
fn refusal<T>(answer: kube::Result<T>) -> Option<u16> {
    match answer {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// Waits until `condition` holds; RBAC and the end of a process take effect with a delay.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 20 seconds: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn grant_listing_config_maps(
    admin: &Client,
    namespace: &str,
    account: &str,
) -> kube::Result<()> {
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        verbs: vec!["list".to_owned()],
        ..PolicyRule::default()
    };
    let role = Role {
        metadata: named("reader"),
        rules: Some(vec![rule]),
    };
    let binding = RoleBinding {
        metadata: named("reader"),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name: "reader".to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(namespace.to_owned()),
            ..Subject::default()
        }]),
    };
    let params = PostParams::default();
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &role)
        .await?;
    Api::namespaced(admin.clone(), namespace)
        .create(&params, &binding)
        .await?;
    Ok(())
}

/// The smallest definition that the API server takes.
const TEST_CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: testbedthings.test.whatsapp-operator.dev
spec:
  group: test.whatsapp-operator.dev
  scope: Namespaced
  names: {plural: testbedthings, singular: testbedthing, kind: TestBedThing, listKind: TestBedThingList}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object}}
";
