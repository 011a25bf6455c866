#!/bin/sh
# Boots a systemd of its own over what this machine's root folder holds: in namespaces, on an overlay in
# memory, so that nothing of it is left and nothing of the machine is changed but a cgroup, whose folder
# is given. Then FOLDER is where the overlay is put together, and each FILE=PLACE is copied into it.
#
#   systemd.sh CGROUP FOLDER [FILE=PLACE]...
set -eu

if [ "$1" != inside ]; then
    cgroup=$1
    shift
    echo $$ > "$cgroup/cgroup.procs"
    exec unshare --fork --kill-child --pid --mount --uts --ipc --cgroup sh "$0" inside "$@"
fi

folder=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$folder"
root=$folder/root
mkdir "$root" "$folder/upper" "$folder/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# What these set is the whole machine's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"

# Of the machine's own services nothing is started.
rm -rf "$root"/etc/systemd/system "$root"/etc/systemd/*.conf.d
mkdir -p "$root/etc/systemd/system"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"
for given; do
    mkdir -p "$root/$(dirname "${given#*=}")"
    cp "${given%%=*}" "$root/${given#*=}"
done

cd "$root"
mkdir old
pivot_root . old
umount --lazy /old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio \
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
