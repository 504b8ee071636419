# Make this system fit to be an image. Runs as root, by any POSIX shell, busybox's included.
# $want holds what is to be done, in order. Each says what it did in a line `did TEXT` or `warn TEXT`.
# What is not there is skipped. Other file systems than the root's are left alone, unless this is a booted system of its
# own: in a chroot they may be the host's.
set -u
export LC_ALL=C PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

root_device=$(stat -c %d /)
# As ischroot(1) finds out.
if [ /proc/1/root/. -ef /. ]; then booted=yes; else booted=no; fi
if [ "$booted" = yes ] && [ -d /run/systemd/system ]; then systemd_runs=yes; else systemd_runs=no; fi

did() { echo "did $1"; }
warn() { echo "warn $1"; }

ours() { [ -e "$1" ] && { [ "$booted" = yes ] || [ "$(stat -L -c %d "$1")" = "$root_device" ]; }; }

kib_of() {
    # shellcheck disable=SC2046
    set -- $(du -skx "$1/." 2> /dev/null)
    echo "${1:-0}"
}

files=0 kib=0
begin() { files=0 kib=0; }
amount() {
    if [ "$kib" -ge 1024 ]; then size="$((kib / 1024)).$((kib % 1024 * 10 / 1024)) MiB"; else size="$kib KiB"; fi
    if [ "$files" = 1 ]; then echo "1 file, $size"; else echo "$files files, $size"; fi
}

# below DIRECTORY [TEST…]: how many files are below it and pass find's tests.
below() {
    directory=$1
    shift
    find "$directory/." -xdev -mindepth 1 ! -type d "$@" -print 2> /dev/null | wc -l
}

# sweep DIRECTORY [TEST…]: remove what is below it and passes find's tests, and count it.
sweep() {
    directory=$1
    if ! [ -d "$directory" ] || ! ours "$directory"; then return; fi
    before=$(kib_of "$directory")
    files=$((files + $(below "$@")))
    shift
    # Not every busybox has find's -delete.
    find "$directory/." -xdev -mindepth 1 ! -type d "$@" -exec rm -f {} + 2> /dev/null
    find "$directory/." -xdev -depth -mindepth 1 -type d "$@" -exec rmdir {} + 2> /dev/null
    files=$((files - $(below "$directory" "$@")))
    kib=$((kib + before - $(kib_of "$directory")))
}

# drop PATH…: remove files, and count them. A link is removed and not followed.
drop() {
    for path; do
        if { [ -f "$path" ] || [ -L "$path" ]; } && ours "${path%/*}/"; then
            # shellcheck disable=SC2046
            set -- $(du -sk "$path")
            rm -f "$path" && files=$((files + 1)) kib=$((kib + $1))
        fi
    done
}

homes() {
    while IFS=: read -r _ _ _ _ _ home _; do
        case $home in /?*) if [ -d "$home" ]; then echo "$home"; fi ;; esac
    done < /etc/passwd | sort -u
}

package_caches() {
    begin
    sweep /var/cache/apt -type f ! -name lock
    sweep /var/lib/apt/lists -type f ! -name lock
    for cache in dnf libdnf5 yum zypp apk pacman/pkg PackageKit; do sweep "/var/cache/$cache"; done
    if [ "$files" -gt 0 ]; then did "package caches: $(amount) removed"; fi
}

cloud_init() {
    if ! [ -d /var/lib/cloud ] && ! command -v cloud-init > /dev/null; then return; fi
    begin
    how="by hand"
    if command -v cloud-init > /dev/null; then
        # Scripts for each boot belong to the image, though `clean` takes them too.
        if [ -d /var/lib/cloud/scripts ]; then mv /var/lib/cloud/scripts /var/lib/cloud.scripts; fi
        if cloud-init clean --logs > /dev/null 2>&1; then how="by cloud-init clean"; fi
        if [ -d /var/lib/cloud.scripts ]; then
            mkdir -p /var/lib/cloud && mv /var/lib/cloud.scripts /var/lib/cloud/scripts
        fi
    fi
    if [ "$how" = "by hand" ]; then
        drop /var/lib/cloud/instance /var/log/cloud-init.log /var/log/cloud-init-output.log
        for part in data instances sem; do sweep "/var/lib/cloud/$part"; done
    fi
    did "cloud-init: its state was reset $how, so that the next boot is a first one"
}

shell_history() {
    begin
    for home in $(homes); do
        for name in bash ash sh zsh python node_repl mysql psql sqlite; do drop "$home/.${name}_history"; done
        drop "$home/.lesshst" "$home/.viminfo" "$home/.wget-hsts" "$home/.local/share/fish/fish_history"
    done
    if [ "$files" -gt 0 ]; then did "shell history: $(amount) removed"; fi
}

dhcp_leases() {
    begin
    for place in dhcp dhclient dhcpcd NetworkManager; do sweep "/var/lib/$place" -type f -name '*.lease*'; done
    sweep /var/lib/wicked -type f -name 'lease-*'
    drop /var/lib/NetworkManager/secret_key /var/lib/NetworkManager/timestamps
    if [ "$files" -gt 0 ]; then did "DHCP leases: $(amount) removed"; fi
}

random_seed() {
    # It is written once more when its unit stops, so that is done first.
    if [ "$systemd_runs" = yes ]; then systemctl stop systemd-random-seed.service > /dev/null 2>&1; fi
    begin
    drop /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/random-seed /var/lib/misc/random-seed \
        /boot/loader/random-seed /boot/efi/loader/random-seed /efi/loader/random-seed
    sweep /var/lib/seedrng -type f
    if [ "$files" -gt 0 ]; then did "random seed: $(amount) removed"; fi
}

temporary_files() {
    begin
    for directory in /tmp /var/tmp; do
        for entry in "$directory"/* "$directory"/.[!.]* "$directory"/..?*; do
            case ${entry##*/} in
                # In use: by services and displays that run, and by an agent that this connection forwards. So are sockets.
                systemd-private-* | snap-private-tmp | .*-unix | .X*-lock | ssh-*) continue ;;
            esac
            if [ -d "$entry" ] && ! [ -L "$entry" ]; then
                if ours "$entry"; then sweep "$entry" ! -type s; rmdir "$entry" 2> /dev/null; fi
            elif [ -e "$entry" ] || [ -L "$entry" ]; then
                drop "$entry"
            fi
        done
    done
    for home in $(homes); do sweep "$home/.ansible/tmp"; done
    if [ "$files" -gt 0 ]; then did "temporary files: $(amount) removed"; fi
}

units="/etc/systemd/system /run/systemd/system /usr/lib/systemd/system /lib/systemd/system"

# Say who makes SSH host keys at the next boot where there are none; nothing if nobody does.
host_key_maker() {
    for directory in $units; do
        for unit in sshd.service ssh.service; do
            # Fedora, SUSE, Arch and their like; comments and our own unit's links aside.
            if cat "$directory/$unit" "$directory/$unit.d"/*.conf 2> /dev/null | grep -v '^#' |
                grep -Eq 'sshd?-?(keygen|gen-keys|genkeys)'; then
                echo "$unit"
                return
            fi
        done
    done
    if [ -f /etc/systemd/system/image-bakery-ssh-host-keys.service ]; then
        echo "image-bakery-ssh-host-keys.service"
    elif command -v cloud-init > /dev/null && ! [ -e /etc/cloud/cloud-init.disabled ] &&
        cat /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg 2> /dev/null | grep -Eq '(- |\[|, *)"?ssh"?( *[],]|$)'; then
        echo "cloud-init"
    elif ! systemd_is_there && grep -qs 'ssh-keygen' /etc/init.d/sshd /etc/init.d/ssh; then
        echo "its init script"
    fi
}

systemd_is_there() { [ -x /usr/lib/systemd/systemd ] || [ -x /lib/systemd/systemd ]; }

make_host_key_unit() {
    wanted=/etc/systemd/system
    mkdir -p "$wanted" && cat > "$wanted/image-bakery-ssh-host-keys.service" << UNIT || return 1
[Unit]
Description=Make SSH host keys where there are none
Before=ssh.service sshd.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$(command -v ssh-keygen) -A

[Install]
WantedBy=multi-user.target ssh.service sshd.service
UNIT
    # As `systemctl enable` does, which not every chroot can.
    for unit in multi-user.target ssh.service sshd.service; do
        mkdir -p "$wanted/$unit.wants" &&
            ln -sf ../image-bakery-ssh-host-keys.service "$wanted/$unit.wants/" || return 1
    done
}

ssh_host_keys() {
    if ls /etc/ssh/ssh_host_*_key > /dev/null 2>&1; then
        maker=$(host_key_maker)
        if [ -z "$maker" ] && systemd_is_there && command -v ssh-keygen > /dev/null; then
            make_host_key_unit && maker="image-bakery-ssh-host-keys.service, made for that,"
        fi
        if [ -n "$maker" ]; then
            begin
            drop /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /etc/ssh/ssh_host_*_key-cert.pub
            did "SSH host keys: $files files removed; $maker makes new ones at the next boot"
        else
            warn "SSH host keys: kept, because nothing here would make new ones at the next boot"
        fi
    fi
    if ls /etc/dropbear/dropbear_*_host_key > /dev/null 2>&1; then
        if grep -Eqs -- '(^|[ "])-[A-Za-z]*R' /etc/default/dropbear /etc/conf.d/dropbear /etc/init.d/dropbear \
            /etc/systemd/system/dropbear.service /usr/lib/systemd/system/dropbear.service; then
            begin
            drop /etc/dropbear/dropbear_*_host_key
            did "SSH host keys: $files files removed; dropbear makes new ones when it is first asked"
        else
            warn "SSH host keys: dropbear's are kept, because it is not started with -R and would make no new ones"
        fi
    fi
}

logs() {
    begin
    # Until the next boot the journal goes to memory.
    if [ "$systemd_runs" = yes ]; then
        journalctl --relinquish-var > /dev/null 2>&1 || journalctl --rotate > /dev/null 2>&1
    fi
    sweep /var/log/journal
    for old in gz xz bz2 zst old '[0-9]' '[0-9][0-9]' '[0-9].log'; do sweep /var/log -type f -name "*.$old"; done
    sweep /var/log -type f -name '*-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]*'
    sweep /var/crash -type f
    sweep /var/lib/systemd/coredump -type f
    removed=$(amount)
    emptied=0
    if [ -d /var/log ] && ours /var/log; then
        before=$(kib_of /var/log)
        emptied=$(below /var/log -type f -size +0)
        find /var/log/. -xdev -type f -size +0 -exec sh -c 'for file; do : > "$file"; done' sh {} + 2> /dev/null
        emptied=$((emptied - $(below /var/log -type f -size +0)))
        files=$emptied kib=$((before - $(kib_of /var/log)))
    fi
    if [ "$removed" != "0 files, 0 KiB" ] || [ "$emptied" -gt 0 ]; then
        did "logs: $(amount) emptied; of older ones, $removed removed"
    fi
}

machine_id() {
    if [ -s /etc/machine-id ]; then
        if : > /etc/machine-id; then
            did "machine-id: emptied; the next boot makes a new one"
        else
            warn "machine-id: /etc/machine-id could not be emptied"
        fi
    fi
    # dbus makes it anew, or as a link.
    if [ -f /var/lib/dbus/machine-id ] && ! [ -L /var/lib/dbus/machine-id ]; then
        rm -f /var/lib/dbus/machine-id && did "machine-id: D-Bus's own was removed"
    fi
}

for item in $want; do "$item"; done
exit 0
