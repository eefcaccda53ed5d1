# Says what a step sees of the world around it: a line for each fact, `NAME: VALUE`.

fact() {
    echo "$1:" $2
}

fact "user" "$(id -u) of $(id -g) in $(id -G)"
fact "umask" "$(umask)"
fact "directory" "$(pwd)"
fact "environment" "$(env | grep -vE '^(SHLVL|_|OLDPWD|PWD|HOSTNAME)=' | sort)"
fact "host name is set" "$(test -n "$(hostname)" && echo yes)"
fact "standard input" "$(cat | wc -c) bytes"
fact "descriptors" "$(ls /proc/self/fd)"
fact "own number" "$$"
fact "first process" "$(tr '\0' ' ' < /proc/1/cmdline | cut -d ' ' -f 1,2)"
fact "control groups" "$(cut -d : -f 3 /proc/self/cgroup | sed 's,/buildah-buildah[0-9]*,/own,' | sort -u)"
fact "memory score" "$(cat /proc/self/oom_score_adj)"
fact "timer slack" "$(cat /proc/self/timerslack_ns)"
fact "nice" "$(cut -d ' ' -f 19 /proc/self/stat)"
for field in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp; do
    fact "status $field" "$(grep "^$field:" /proc/self/status | cut -f 2)"
done
for limit in c d f l m q r s t v x; do
    fact "limit $limit" "$(ulimit -$limit) $(ulimit -H -$limit)"
done
for device in /dev/*; do
    test -d "$device" && kind=$(stat -c '%F %a %u:%g' "$device") || kind=$(stat -c '%F %a %t:%T' "$device")
    test -L "$device" && kind="link to $(readlink "$device")"
    fact "device $device" "$kind"
done
fact "localhost" "$(grep -cE '^127\.0\.0\.1[[:space:]].*localhost' /etc/hosts)"
fact "own address" "$(grep -w "$(hostname)" /etc/hosts > /dev/null && echo known)"
fact "name servers" "$(grep nameserver /etc/resolv.conf)"
fact "names in sys" "$(ls /sys)"
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm /etc/hosts /etc/resolv.conf /proc/kcore /proc/keys; do
    test ! -e "$path" && can=absent || { test -w "$path" && can=writable || can=read-only; }
    fact "access $path" "$can"
done
for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/acpi /sys/firmware; do
    test -e "$file" && fact "seen of $file" "$(ls "$file" 2> /dev/null | head -c 20; test -f "$file" && head -c 1 "$file" | wc -c)"
done
while read -r number parent device root point options rest; do
    options=$(echo "$options" | sed 's/,relatime//;s/,strictatime//')
    fact "mount $point" "$(echo "$rest" | sed 's/.*- //' | cut -d ' ' -f 1) $options"
done < /proc/self/mountinfo
