//! The rules: their names, what each is about and why.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which is also the code of its findings.
    pub name: &'static str,
    /// What it asks for, in one line.
    pub description: &'static str,
    /// Why, in a sentence or two.
    pub explanation: &'static str,
    /// Where more is said about it; empty for kiln's own rules.
    pub url: &'static str,
    /// Whether it only counts where `experimental=` asks for it.
    pub is_experimental: bool,
}

/// The rule of this name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

macro_rules! rules {
    ($($kind:ident $constant:ident $name:literal $slug:literal: $description:literal, $explanation:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*

        /// Every rule: BuildKit's, and behind them kiln's own.
        pub static RULES: &[Rule] = &[$(Rule {
            name: $name,
            description: $description,
            explanation: $explanation,
            url: rules!(@url $kind $slug),
            is_experimental: rules!(@experimental $kind),
        }),*];
    };
    (@url own $slug:literal) => { "" };
    (@url $kind:ident $slug:literal) => { concat!("https://docs.docker.com/go/dockerfile/rule/", $slug, "/") };
    (@experimental stable) => { false };
    (@experimental $kind:ident) => { true };
}

rules! {
    stable STAGE_NAME_CASING "StageNameCasing" "stage-name-casing":
        "stage names are written in lower case",
        "Stage names are compared without regard to case, so upper-case letters only suggest a difference that is none.";
    stable FROM_AS_CASING "FromAsCasing" "from-as-casing":
        "`AS` is written in the same case as `FROM`",
        "One instruction reads best in one style.";
    stable NO_EMPTY_CONTINUATION "NoEmptyContinuation" "no-empty-continuation":
        "a continued instruction has no empty lines in it",
        "Docker joins over an empty line today and says that a later version will refuse it; mostly it is a \
         continuation mark too many.";
    stable CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "consistent-instruction-casing":
        "all instructions of a Dockerfile are written in the same case",
        "Instructions may be written in any case; a file is easier to read when it keeps to one.";
    stable DUPLICATE_STAGE_NAME "DuplicateStageName" "duplicate-stage-name":
        "every stage has a name of its own",
        "A name that is given twice means the later stage from there on, and the earlier one can only be reached by \
         its number.";
    stable RESERVED_STAGE_NAME "ReservedStageName" "reserved-stage-name":
        "no stage is called `scratch` or `context`",
        "These names have a meaning of their own, so a stage that takes one is easily confused with it.";
    stable JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "json-args-recommended":
        "`CMD` and `ENTRYPOINT` are written as a JSON array",
        "Without one the command runs below a shell, which does not pass signals on: the container then stops only \
         after a timeout. A `SHELL` instruction says that this is meant.";
    stable MAINTAINER_DEPRECATED "MaintainerDeprecated" "maintainer-deprecated":
        "the author is named in a label instead of `MAINTAINER`",
        "`MAINTAINER` is deprecated; tools look at the label `org.opencontainers.image.authors`.";
    stable UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "undefined-arg-in-from":
        "`FROM` uses arguments that are declared before the first stage",
        "Only those are in scope there; any other name is empty.";
    stable WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "workdir-relative-path":
        "the first `WORKDIR` of a stage is an absolute path",
        "A relative one depends on the working directory of the base image, which may change with its next version.";
    stable UNDEFINED_VAR "UndefinedVar" "undefined-var":
        "variables are defined before they are used",
        "A variable that no `ARG` or `ENV` and not the base image defines is empty, which is hardly ever meant.";
    stable MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "multiple-instructions-disallowed":
        "a stage has one `CMD`, one `ENTRYPOINT` and one `HEALTHCHECK` at most",
        "Only the last one of a stage counts; the ones before it have no effect.";
    stable LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "legacy-key-value-format":
        "`ENV` and `LABEL` are written with an equals sign",
        "The older form with a blank takes all of the line as one value, which is easily misread.";
    stable INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" "invalid-base-image-platform":
        "the base image is for the platform that is built for",
        "The registry gave an image for another platform; its programs may not run, or run emulated.";
    stable REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "redundant-target-platform":
        "`FROM` does not say `--platform=$TARGETPLATFORM`",
        "The platform that is built for is what `FROM` takes anyway.";
    stable SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "secrets-used-in-arg-or-env":
        "secrets are not passed as `ARG` or `ENV`",
        "Both can be read from the finished image. A secret mount is there for one command and leaves nothing behind.";
    stable INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "invalid-default-arg-in-from":
        "`FROM` names an image without any build arguments too",
        "With the defaults alone the image's name is empty or malformed, so a plain build fails.";
    stable FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed" "from-platform-flag-const-disallowed":
        "`FROM --platform` is not a constant",
        "A constant forces one platform on whoever builds; use `--platform` of the build, a variable, or name the \
         stage after its platform.";
    stable COPY_IGNORED_FILE "CopyIgnoredFile" "copy-ignored-file":
        "what is copied is not left out by `.dockerignore`",
        "What `.dockerignore` leaves out is not there to be copied, so the build fails.";
    experimental INVALID_DEFINITION_DESCRIPTION "InvalidDefinitionDescription" "invalid-definition-description":
        "a comment above a stage or an argument begins with its name",
        "Such a comment is its description, which `--call=outline` and `--call=targets` show. Put an empty line \
         between them if it is another comment.";
    stable EXPOSE_PROTO_CASING "ExposeProtoCasing" "expose-proto-casing":
        "protocols in `EXPOSE` are written in lower case",
        "The image keeps them in lower case.";
    stable EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "expose-invalid-format":
        "`EXPOSE` names ports of the container alone",
        "Addresses and ports of the host are chosen when a container is started; here they are ignored, and a later \
         version of Docker will refuse them.";
    own CACHE_BUSTER_ORDER "CacheBusterOrder" "":
        "dependencies are installed before the whole context is copied",
        "A step behind `COPY . .` runs again after every change of any file. With the manifest copied first, the \
         dependencies come from the cache until the manifest changes.";
    own LATEST_TAG "LatestTag" "":
        "base images are named with a version",
        "What `latest` means changes without notice, so the same Dockerfile gives other images later.";
    own APT_LISTS_LEFT "AptListsLeft" "":
        "a `RUN` that updates apt's lists removes them",
        "They take tens of megabytes in the layer and are out of date when somebody could use them.";
    own ROOT_USER "RootUser" "":
        "the image does not run as root",
        "Whoever breaks out of a program that runs as root has more to break.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_all_of_them() {
        assert_eq!(RULES.iter().filter(|rule| !rule.url.is_empty()).count(), 22);
        assert_eq!(RULES.len(), 26);
        assert!(rule("UndefinedVar").is_some_and(|rule| rule.url.ends_with("/rule/undefined-var/")));
        let experimental: Vec<_> = RULES.iter().filter(|rule| rule.is_experimental).map(|rule| rule.name).collect();
        let expected = ["InvalidDefinitionDescription", "CacheBusterOrder", "LatestTag", "AptListsLeft", "RootUser"];
        assert_eq!(experimental, expected);
    }
}
