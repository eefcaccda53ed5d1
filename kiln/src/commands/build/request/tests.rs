//! Flags, and what they come to.

use super::*;
use crate::commands::build::ProgressStyle;
use clap::Parser as _;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn request(words: &[&str]) -> Result<Request, CliError> {
    let all = ["kiln"].iter().chain(words);
    let command = Command::try_parse_from(all).map_err(|error| CliError::usage(error.to_string()))?;
    Request::new(command.args, &Environment::default(), &|name| (name == "FROM_ENVIRONMENT").then(|| "set".into()))
}

fn message(words: &[&str]) -> String {
    request(words).unwrap_err().message
}

#[test]
fn what_is_pushed_has_a_name() {
    let pushed = |words: &[&str]| {
        let outputs = request(words).unwrap().outputs.into_iter();
        outputs.filter(|output| matches!(output, Output::Store { push: Some(_), .. })).count()
    };
    assert_eq!(pushed(&["/", "--push", "-t", "a"]), 1);
    assert_eq!(pushed(&["/", "--push", "-t", "a", "-o", "out"]), 1);
    assert_eq!(pushed(&["/", "--push", "-o", "type=image,name=a"]), 1);
    assert_eq!(pushed(&["/", "-o", "type=image", "-t", "a"]), 0);
    assert!(message(&["/", "--push"]).contains("needs a name"));
    assert!(message(&["/", "-o", "type=registry"]).contains("needs a name"));
}

#[test]
fn one_platform_may_be_treated_as_several() {
    let wants_index = |value: &str| {
        let argument = format!("BUILDKIT_MULTI_PLATFORM={value}");
        request(&["/", "--build-arg", &argument]).map(|request| request.wants_index)
    };
    assert_eq!([wants_index("1").unwrap(), wants_index("false").unwrap()], [true, false]);
    assert!(wants_index("some").unwrap_err().message.contains("`BUILDKIT_MULTI_PLATFORM` is `true` or `false`"));
    assert!(!request(&["/"]).unwrap().wants_index);
}

#[test]
fn the_store_names_what_it_is_to_keep() {
    let stored = |words: &[&str]| {
        let (names, is_listed) = request(words).unwrap().stored_names();
        (names.iter().map(Reference::familiar).collect::<Vec<_>>().join(" "), is_listed)
    };
    assert_eq!(stored(&["/"]), (String::new(), true));
    assert_eq!(stored(&["/", "-o", "out"]), (String::new(), false));
    assert_eq!(stored(&["/", "-o", "type=image"]), (String::new(), true));
    assert_eq!(stored(&["/", "-t", "a", "-o", "type=image,name=b"]), ("a:latest b:latest".to_owned(), false));
    assert_eq!(stored(&["/", "-o", "type=registry,name=b"]), (String::new(), false));
    assert_eq!(stored(&["/", "-t", "a", "-o", "type=cacheonly"]), (String::new(), false));
}

#[test]
fn the_simplest_build() {
    let request = request(&["/"]).unwrap();
    assert_eq!(request.context, PathBuf::from("/"));
    assert_eq!(request.dockerfile, DockerfileSource::File("/Dockerfile".into()));
    assert_eq!(request.platforms, [Platform::host()]);
    assert_eq!(request.style, Style::Plain);
    assert!(!request.print_id);
}

#[test]
fn build_arguments_come_from_the_environment_where_they_have_no_value() {
    let words = ["--build-arg", "A=1=2", "--build-arg", "FROM_ENVIRONMENT", "--build-arg", "UNSET", "/"];
    let arguments = request(&words).unwrap().build_args;
    let expected = [("A", "1=2"), ("FROM_ENVIRONMENT", "set")];
    assert_eq!(arguments, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(message(&["--build-arg", "=x", "/"]), "`--build-arg =x` has no name");
}

#[test]
fn the_display_suits_the_terminal() {
    let environment = |live| {
        let mut environment = Environment::default();
        environment.live = live;
        environment
    };
    assert_eq!(ProgressStyle::Auto.style(&environment(true)).unwrap(), Style::Tty);
    assert_eq!(ProgressStyle::Auto.style(&environment(false)).unwrap(), Style::Plain);
    assert_eq!(ProgressStyle::Tty.style(&environment(true)).unwrap(), Style::Tty);
    assert_eq!(ProgressStyle::Tty.style(&environment(false)).unwrap_err().exit_code(), 2);
    assert_eq!(request(&["--progress", "rawjson", "/"]).unwrap().style, Style::RawJson);
    assert_eq!(request(&["--progress", "rawjson", "-q", "/"]).unwrap().style, Style::Quiet);
}

#[test]
fn the_time_may_be_fixed() {
    let epoch = |value: &str| request(&["--build-arg", &format!("SOURCE_DATE_EPOCH={value}"), "/"]);
    assert_eq!(epoch("0").unwrap().source_date_epoch, Some(SystemTime::UNIX_EPOCH));
    assert_eq!(epoch("").unwrap().source_date_epoch, None);
    assert!(epoch("noon").unwrap_err().message.contains("`SOURCE_DATE_EPOCH` is `noon`"));
}

#[test]
fn labels_may_be_empty_but_not_nameless() {
    let labels = request(&["--label", "a", "--label", "b=c=d", "/"]).unwrap().labels;
    assert_eq!(labels, [("a", ""), ("b", "c=d")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(message(&["--label", "=x", "/"]), "`--label =x` has no key");
}

#[test]
fn contexts_have_kinds() {
    let words = ["--build-context", "Src=/", "--build-context", "base=docker-image://debian:12"];
    let more = ["--build-context", "layout=oci-layout:///tmp/x:1", "/"];
    let contexts = request(&[&words[..], &more].concat()).unwrap().contexts;
    assert_eq!(contexts["src"], NamedContext::Directory("/".into()));
    assert_eq!(contexts["base"], NamedContext::Image("debian:12".to_owned()));
    assert_eq!(contexts["layout"], NamedContext::Image("oci-layout:///tmp/x:1".to_owned()));
    let words = ["--build-context", "a=target:base", "--build-context", "b=https://host/x.git", "/"];
    let contexts = request(&words).unwrap().contexts;
    assert_eq!(contexts["a"], NamedContext::Stage("base".to_owned()));
    assert!(matches!(contexts["b"], NamedContext::Remote(RemoteContext::Git(_))));
    for value in ["x", "x=", "=x", "context=/", "x=ftp://example.com/a", "x=docker-image://A", "x=/no/such"] {
        assert!(request(&["--build-context", value, "/"]).is_err(), "{value}");
    }
}

#[test]
fn names_are_checked_before_anything_is_built() {
    assert!(message(&["-t", "App", "/"]).contains("invalid image reference `App`"));
    let digest = format!("app@sha256:{}", "0".repeat(64));
    assert!(message(&["-t", &digest, "/"]).contains("cannot name a new image"));
    let tags = request(&["-t", "app", "-t", "localhost:5000/team/app:1", "/"]).unwrap().tags;
    let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["docker.io/library/app:latest", "localhost:5000/team/app:1"]);
}

#[test]
fn contexts_may_come_from_elsewhere() {
    assert_eq!(request(&["-"]).unwrap().remote_context, Some(RemoteContext::Stdin));
    assert!(message(&["-", "-f", "-"]).contains("cannot both"));
    for url in ["https://host/x.git#main:dir", "git@host:x/y.git", "github.com/x/y"] {
        let remote = request(&[url]).unwrap().remote_context;
        assert!(matches!(remote, Some(RemoteContext::Git { .. })), "{url}: {remote:?}");
    }
    let remote = request(&["https://host/x.tar.gz"]).unwrap().remote_context;
    assert!(matches!(remote, Some(RemoteContext::Http(_))), "{remote:?}");
    assert!(message(&["https://host/x.git?what=x"]).contains("`what`"));
    assert!(message(&["/etc/passwd"]).contains("it is not a directory"));
    assert!(message(&["/no/such/place"]).contains("no such file or directory"));
}

#[test]
fn several_platforms_are_each_built_once() {
    let platforms = |words: &[&str]| {
        let request = request(words).unwrap();
        let platforms: Vec<String> = request.platforms.iter().map(ToString::to_string).collect();
        (platforms.join(" "), request.targeting())
    };
    let host = Platform::host().to_string();
    assert_eq!(platforms(&["/"]), (host.clone(), Targeting::Default));
    assert_eq!(platforms(&["--platform", "", "/"]), (host.clone(), Targeting::Default));
    assert_eq!(platforms(&["--platform", "local", "/"]), (host, Targeting::Asked));
    let words = ["--platform", "linux/s390x, linux/arm64", "--platform", "linux/arm64/v8,linux/arm", "/"];
    assert_eq!(platforms(&words), ("linux/s390x linux/arm64 linux/arm/v7".to_owned(), Targeting::OneOfSeveral));
    assert_eq!(request(&["--platform", "a b", "/"]).unwrap_err().exit_code(), 2);
}

#[test]
fn the_environment_may_name_the_platform() {
    let found = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let variable = |name: &str| (name == "DOCKER_DEFAULT_PLATFORM").then(|| "linux/s390x".into());
        platforms(&texts, &variable).unwrap()
    };
    assert_eq!(found(&[]), [Platform::new("linux", "s390x", None)]);
    assert_eq!(found(&["linux/arm64"]), [Platform::new("linux", "arm64", None)]);
}

#[test]
fn what_holds_one_platform_is_refused_for_several() {
    let both = ["--platform", "linux/amd64,linux/arm64", "/"];
    let with = |words: &[&str]| request(&[words, &both].concat());
    assert!(with(&["-o", "type=docker,dest=a.tar"]).unwrap_err().message.contains("one platform"));
    assert!(with(&["-o", "type=oci,dest=a.tar"]).is_ok());
    assert!(with(&["--annotation", "index:a=b"]).is_ok());
    assert!(message(&["--annotation", "index:a=b", "/"]).contains("has no index"));
}

#[test]
fn stdout_has_room_for_one_thing() {
    assert!(request(&["-o", "-", "/"]).is_ok());
    assert!(message(&["-o", "-", "-o", "type=oci", "/"]).contains("only one"));
    assert!(message(&["-q", "-o", "-", "/"]).contains("prints the image ID"));
    let quiet = request(&["-q", "/"]).unwrap();
    assert!(quiet.print_id);
    assert_eq!(quiet.style, Style::Quiet);
}
