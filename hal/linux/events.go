package linux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ueventBytesMax bounds one uevent (UEVENT_BUFFER_SIZE is 2048, plus its head).
const ueventBytesMax = 8 << 10

// Watch calls got for every change of a link or of a CPU, and for every device that comes or
// goes, until ctx ends; then it returns nil. It answers with what changed only: a plan is applied
// again by whoever watches. ready, if not nil, is called once listening has begun.
func Watch(ctx context.Context, ready func(), got func(hal.Event)) error {
	links, err := listen(unix.NETLINK_ROUTE, unix.RTMGRP_LINK)
	if err != nil {
		return err
	}
	defer unix.Close(links)
	devices, err := listen(unix.NETLINK_KOBJECT_UEVENT, 1)
	if err != nil {
		return err
	}
	defer unix.Close(devices)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("linux: watch: %w", err)
	}
	defer unix.Close(wake)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-done // its write must not meet another file under the same number
		}
	}()
	if ready != nil {
		ready()
	}
	up := map[int32]bool{}
	buf := make([]byte, 64<<10)
	fds := []unix.PollFd{{Fd: int32(links), Events: unix.POLLIN}, {Fd: int32(devices), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("linux: watch: %w", err)
		}
		for i, fd := range fds[:2] {
			if fd.Revents == 0 { // an error alone has to be received too, or poll returns for ever
				continue
			}
			n, from, err := unix.Recvfrom(int(fd.Fd), buf, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.ENOBUFS) { // events were lost: whoever watches has to look at everything
				got(hal.Event{Kind: "lost"})
				continue
			}
			sender, ok := from.(*unix.SockaddrNetlink)
			if err != nil || !ok || sender.Pid != 0 { // only the kernel's own count
				continue
			}
			if i == 0 {
				linkEvents(buf[:n], up, got)
			} else if e, ok := Uevent(buf[:n]); ok {
				got(e)
			}
		}
	}
	return nil
}

func listen(protocol int, groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return 0, fmt.Errorf("linux: watch: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("linux: watch: %w", err)
	}
	return fd, nil
}

// linkEvents reads RTM_NEWLINK and RTM_DELLINK messages (man 7 rtnetlink). up is what is known of
// each link: the kernel repeats itself, and only what changed is an event.
func linkEvents(b []byte, up map[int32]bool, got func(hal.Event)) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return
	}
	for _, m := range messages {
		if len(m.Data) < unix.SizeofIfInfomsg || m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK {
			continue
		}
		index := int32(binary.NativeEndian.Uint32(m.Data[4:]))
		flags := binary.NativeEndian.Uint32(m.Data[8:])
		name := ""
		// Not syscall.ParseNetlinkRouteAttr, which panics at an attribute without what aligns it.
		attrs, err := netlink.UnmarshalAttributes(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Type&attrTypeMask == unix.IFLA_IFNAME {
				name = string(bytes.TrimRight(a.Data, "\x00"))
			}
		}
		if m.Header.Type == unix.RTM_DELLINK {
			delete(up, index)
			got(hal.Event{Kind: "link-gone", Name: name})
			continue
		}
		now := flags&unix.IFF_LOWER_UP != 0
		before, known := up[index]
		up[index] = now
		switch {
		case known && before == now:
		case now:
			got(hal.Event{Kind: "link-up", Name: name})
		default:
			got(hal.Event{Kind: "link-down", Name: name})
		}
	}
}

// Uevent reads one kernel uevent: "online@/devices/system/cpu/cpu1", a NUL, and KEY=value pairs
// with a NUL behind each. ok is false for what no plan depends on.
func Uevent(b []byte) (e hal.Event, ok bool) {
	if len(b) > ueventBytesMax {
		return e, false
	}
	head, rest, _ := bytes.Cut(b, []byte{0})
	action, device, found := strings.Cut(string(head), "@")
	if !found {
		return e, false
	}
	subsystem := ""
	for pair := range bytes.SplitSeq(rest, []byte{0}) {
		if v, ok := strings.CutPrefix(string(pair), "SUBSYSTEM="); ok {
			subsystem = v
		}
	}
	name := path.Base(device)
	switch {
	case subsystem == "cpu" && (action == "online" || action == "offline"):
		return hal.Event{Kind: "cpu-" + action, Name: name}, true
	case (subsystem == "net" || subsystem == "watchdog" || subsystem == "leds" || subsystem == "gpio") && (action == "add" || action == "remove"):
		return hal.Event{Kind: "device-" + action, Name: name}, true
	}
	return e, false
}
