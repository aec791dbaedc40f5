// Package slots keeps two releases of the firmware, slots a and b, on the mounted EFI system partition of a box, and says
// which one the boot loader takes. It is files and names only: it mounts nothing and starts nothing.
//
//	/a/, /b/                                  vmlinuz, initrd.img and manifest of a release
//	/loader/entries/holdfast-000007-b+3.conf  an entry of the loader: install 7, in slot b, which has three tries
//
// The loader (systemd-boot) takes the entry with the highest number whose tries are not used up, and counts a try by renaming
// the entry before it starts the kernel: +3, +2-1, +1-2, +0-3 (Automatic Boot Assessment of systemd; Boot Loader Specification,
// boot counting). An entry without a count is blessed: it was good once, and is what a box falls back to.
//
// The file system is FAT: it has no journal, and a rename that a power cut meets may leave the new name, the old one, both for one
// content, or neither. So nothing here is renamed, and no step relies on two changes of names: a slot loses its entry, on the disk,
// before its files change; it gets one when all of them are on the disk; an entry that changes its count is written under the
// new name before the old one goes; and the other slot is never touched. An entry that was not written whole names no kernel, and
// the loader passes over it. At every moment a slot that was good can be started.
package slots
