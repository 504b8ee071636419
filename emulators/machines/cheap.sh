# Become the first process of a cheap machine. Runs in its new namespaces, still with the host's files.
# Arguments: the root tree, and a directory with boot_id, hostname, inittab, cidata/, mounts and devices.
# It starts few programs: hundreds of machines boot side by side.
set -e
root=$1 work=$2
mount --all --fstab "$work/mounts"
cd "$root/dev"
while read -r source target rest; do
    : > "${target##*/}"
done < "$work/devices"
mount --all --fstab "$work/devices"
ln -s pts/ptmx /proc/self/fd .
cp -a /dev/stdin /dev/stdout /dev/stderr .
read -r hostname < "$work/hostname"
echo "$hostname" > /proc/sys/kernel/hostname
# Not a sandbox, but a guest that means no harm can do none: no mounts, modules, clocks or network set-up of the host.
capabilities=-sys_admin,-sys_module,-sys_rawio,-sys_time,-net_admin,-mknod,-sys_ptrace
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=linux \
    setpriv --bounding-set "$capabilities" --inh-caps "$capabilities" -- chroot "$root" /sbin/init
