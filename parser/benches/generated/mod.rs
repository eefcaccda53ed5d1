//! A large Dockerfile as a build system or a template engine might write one.

/// What every stage has. `@` stands for the stage's number, `%` for that of the one before.
const STAGE: &str = r#"
# Stage @: what the one before made, and more.
FROM --platform=$BUILDPLATFORM example.com/base/image:${RELEASE} AS stage@
ARG VERSION=1.2.@
ARG PREFIX=/opt/${VERSION} MODE
ENV APP_HOME=${PREFIX}/app \
    # a comment between
    PATH="${PREFIX}/bin:$PATH" \

    MESSAGE='single $quoted'
LABEL org.example.version="${VERSION#*.}" \
      org.example.stage=stage@
WORKDIR ${APP_HOME:-/srv}
USER build:${GROUP:-users}
RUN --network=default \
    --security=sandbox \
    apt-get update && \
    apt-get install --yes --no-install-recommends \
        build-essential \
        ca-certificates \
        curl && \
    rm -rf /var/lib/apt/lists/*
COPY --chown=build:users go.mod go.sum ./src@/
COPY --from=stage% /etc/os-release /etc/hostname /from/stage%/
COPY --link --chmod=0755 <<script.sh <<'plain.txt' /usr/local/share/@/
#!/bin/sh
echo "${VERSION} of stage @"
script.sh
nothing is $EXPANDED here
plain.txt
RUN <<EOF
set -eu
for file in *.c; do cc -O2 -c "$file"; done
EOF
RUN ["/bin/sh", "-c", "echo \"exec form\" > /log"]
EXPOSE 8080/tcp 9000-9010/udp
VOLUME ["/data", "/state/@"]
HEALTHCHECK --interval=30s --timeout=5s CMD curl --fail http://localhost/ || exit 1
ENTRYPOINT ["/usr/local/bin/entry", "--stage", "@"]
CMD ["serve"]
"#;

const HEAD: &str = "# syntax=docker/dockerfile:1\nARG RELEASE=stable\nFROM example.com/base/image AS stage0\n";

/// A Dockerfile of so many lines: stages of one base image, each of which copies from the one before.
pub(crate) fn dockerfile(lines: usize) -> String {
    let stages = lines.saturating_sub(HEAD.lines().count()) / STAGE.lines().count();
    let mut text = HEAD.to_owned();
    for number in 1..=stages {
        text.push_str(&STAGE.replace('@', &number.to_string()).replace('%', &(number - 1).to_string()));
    }
    let written = text.lines().count();
    text.push_str(&"RUN true\n".repeat(lines.saturating_sub(written)));
    text
}
