#!/usr/bin/env bash
# Installs what the build and the tests need on a bare Debian 12 machine that has Go, make and git.
# Safe to repeat; does nothing when everything is there. "deps.sh e2e-hal", and the same with e2e-console, e2e-observe and e2e-image, install
# what these targets need beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v go >/dev/null || { echo 'deps: Go 1.26 is missing: see https://go.dev/doc/install' >&2; exit 1; }

want=()
command -v qemu-aarch64-static >/dev/null || want+=(qemu-user-static)
command -v xz >/dev/null || want+=(xz-utils)
command -v gcc >/dev/null || want+=(gcc libc6-dev)
command -v curl >/dev/null || want+=(curl)
command -v strace >/dev/null || want+=(strace)     # tools/chaos
command -v ip >/dev/null || want+=(iproute2)       # tools/chaos
command -v mkfs.ext4 >/dev/null || want+=(e2fsprogs) # tools/chaos
command -v cpio >/dev/null || want+=(cpio)           # tools/e2ehal
command -v swtpm >/dev/null || want+=(swtpm)         # hal/tpm/tpmtest
[ -x /sbin/fsck.fat ] || want+=(dosfstools)          # firmware/image/fat
command -v mtype >/dev/null || want+=(mtools)        # firmware/image/fat
command -v sgdisk >/dev/null || want+=(gdisk)        # firmware/image/gpt
[ -x /usr/sbin/dnsmasq ] || want+=(dnsmasq-base)     # firmware/supervise/netconf
command -v spin >/dev/null || want+=(spin)
command -v z3 >/dev/null || want+=(z3)
if [ "${1:-}" = e2e-hal ]; then
	command -v qemu-system-aarch64 >/dev/null || want+=(qemu-system-arm)
	command -v dtc >/dev/null || want+=(device-tree-compiler)
	command -v aarch64-linux-gnu-as >/dev/null || want+=(binutils-aarch64-linux-gnu)
	[ -x /sbin/depmod ] || want+=(kmod)
fi
if [ "${1:-}" = e2e-console ]; then
	command -v chromium >/dev/null || want+=(chromium)
	command -v node >/dev/null || want+=(nodejs)
	command -v npm >/dev/null || want+=(npm)
fi
if [ "${1:-}" = e2e-image ]; then
	command -v qemu-system-x86_64 >/dev/null || want+=(qemu-system-x86)
	command -v qemu-system-aarch64 >/dev/null || want+=(qemu-system-arm)
	[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || want+=(ovmf)
	command -v etcdctl >/dev/null || want+=(etcd-client)
	[ -e /usr/share/qemu-efi-aarch64/QEMU_EFI.fd ] || want+=(qemu-efi-aarch64)
fi
quiet=
if [ "${1:-}" = e2e-observe ]; then
	command -v prometheus >/dev/null || want+=(prometheus)
	command -v prometheus-alertmanager >/dev/null || want+=(prometheus-alertmanager)
	quiet=1
fi
if [ ${#want[@]} -gt 0 ]; then
	sudo=''
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -q
	# The test runs these programs itself: a policy of 101 (invoke-rc.d) keeps their packages from starting them as services.
	policy=/usr/sbin/policy-rc.d
	if [ -n "$quiet" ] && [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
		$sudo chmod 755 $policy
		trap '$sudo rm -f $policy' EXIT
	fi
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${want[@]}"
fi
go mod download
go mod download -modfile=tools/checks.mod
go -C tools/web mod download
if [ "${1:-}" = e2e-console ] && ! cmp -s tools/e2econsole/browser/package.json bin/e2econsole/node_modules/.for; then
	mkdir -p bin/e2econsole
	cp tools/e2econsole/browser/package.json bin/e2econsole/
	npm install --prefix bin/e2econsole --no-package-lock --no-audit --no-fund
	cp bin/e2econsole/package.json bin/e2econsole/node_modules/.for
fi
