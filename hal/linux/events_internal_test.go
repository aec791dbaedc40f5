package linux

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/holdfast-edge/holdfast/hal"
	"golang.org/x/sys/unix"
)

// newLink is an RTM_NEWLINK or RTM_DELLINK message (man 7 rtnetlink) of link 7, eth0.
func newLink(kind uint16, flags uint32) []byte {
	name := []byte("eth0\x00\x00\x00\x00") // 5 bytes and what aligns them
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg+unix.SizeofRtAttr)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], 7)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+8:], flags)
	binary.NativeEndian.PutUint16(b[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:], unix.SizeofRtAttr+5)
	binary.NativeEndian.PutUint16(b[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg+2:], unix.IFLA_IFNAME)
	b = append(b, name...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// The kernel repeats itself with every change of statistics or address: a plan is not made again for that.
func TestOnlyWhatChangedOfALinkIsAnEvent(t *testing.T) {
	up := map[int32]bool{}
	unaligned := newLink(unix.RTM_NEWLINK, 0)
	unaligned[0] -= 3 // its last attribute ends where it ends
	var got []string
	for _, m := range [][]byte{
		newLink(unix.RTM_NEWLINK, unix.IFF_LOWER_UP), newLink(unix.RTM_NEWLINK, unix.IFF_LOWER_UP|unix.IFF_PROMISC),
		newLink(unix.RTM_NEWLINK, 0), newLink(unix.RTM_NEWLINK, unix.IFF_PROMISC),
		newLink(unix.RTM_DELLINK, 0), newLink(unix.RTM_NEWLINK, 0),
		newLink(unix.RTM_NEWLINK, 0)[:20],
		{1},
		unaligned,
	} {
		linkEvents(m, up, func(e hal.Event) { got = append(got, e.Kind+" "+e.Name) })
	}
	if want := []string{"link-up eth0", "link-down eth0", "link-gone eth0", "link-down eth0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzLinkEvents(f *testing.F) {
	f.Add(newLink(unix.RTM_NEWLINK, unix.IFF_LOWER_UP))
	f.Add(newLink(unix.RTM_DELLINK, 0)[:34])
	f.Fuzz(func(_ *testing.T, b []byte) { linkEvents(b, map[int32]bool{}, func(hal.Event) {}) })
}
