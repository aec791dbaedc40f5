package box

import (
	"os"

	"golang.org/x/sys/unix"
)

// hideInput turns a terminal's echo off, and gives what turns it on again. Anything but a terminal is left alone.
func hideInput(f *os.File) (show func()) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) } // a terminal that stays quiet is a nuisance and no more
}
