package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/holdfast-edge/holdfast/hal"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of ETHTOOL_MSG_RSS_GET (linux/ethtool_netlink.h), which x/sys does not have.
const (
	rssHashFunc = 3
	rssTable    = 4
	rssKey      = 5
)

// headerAttr is the first attribute of every message of the family (ETHTOOL_A_*_HEADER).
const headerAttr = 1

// attrTypeMask leaves out the flags of an attribute's type (NLA_TYPE_MASK, linux/netlink.h).
const attrTypeMask = 0x3fff

// ethtool is a connection to the kernel's ethtool family (Documentation/networking/ethtool-netlink.rst).
type ethtool struct {
	conn   *genetlink.Conn
	family genetlink.Family
}

// dialEthtool connects; close it.
func dialEthtool() (*ethtool, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("linux: ethtool: %w", err)
	}
	// The kernel's reason for a refusal comes only to who asks for it; kernels before 4.12 have none.
	_ = conn.SetOption(netlink.ExtendedAcknowledge, true)
	family, err := conn.GetFamily(unix.ETHTOOL_GENL_NAME)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("linux: ethtool: this kernel has no such family: %w", err)
	}
	return &ethtool{conn, family}, nil
}

func (e *ethtool) close() { e.conn.Close() }

// ask sends one command about an interface and returns the attributes of the answer.
func (e *ethtool) ask(command uint8, nic string, set func(*netlink.AttributeEncoder)) ([]netlink.Attribute, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(headerAttr, func(h *netlink.AttributeEncoder) error {
		h.String(unix.ETHTOOL_A_HEADER_DEV_NAME, nic)
		return nil
	})
	flags := netlink.Request
	if set != nil {
		set(ae)
		flags |= netlink.Acknowledge
	}
	data, err := ae.Encode()
	if err != nil {
		return nil, fmt.Errorf("linux: ethtool: %w", err)
	}
	answers, err := e.conn.Execute(genetlink.Message{Header: genetlink.Header{Command: command, Version: unix.ETHTOOL_GENL_VERSION}, Data: data}, e.family.ID, flags)
	if err != nil {
		return nil, kernelSays(err)
	}
	if set != nil || len(answers) == 0 {
		return nil, nil
	}
	attrs, err := netlink.UnmarshalAttributes(answers[0].Data)
	if err != nil {
		return nil, fmt.Errorf("linux: ethtool: %w", err)
	}
	for i := range attrs {
		attrs[i].Type &= attrTypeMask
	}
	return attrs, nil
}

// kernelSays puts the kernel's own reason in front of its errno.
func kernelSays(err error) error {
	var op *netlink.OpError
	if !errors.As(err, &op) {
		return err
	}
	var errno syscall.Errno
	if !errors.As(op.Err, &errno) {
		return err
	}
	if errno == syscall.ENODEV {
		return fmt.Errorf("%w: %w", hal.ErrGone, errno)
	}
	if op.Message != "" {
		return fmt.Errorf("the kernel says %q: %w", op.Message, errno)
	}
	return errno
}

// errnoText is the kernel's errno without the path in front of it.
func errnoText(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// refusal is the status of a part that the kernel refused to tell.
func refusal(err error) hal.Status {
	if errors.Is(err, errors.ErrUnsupported) {
		return hal.Skip("the driver does not tell: %s", errnoText(err))
	}
	return hal.Fail(err)
}

// numbers picks 32- and 8-bit attributes out of an answer, by type. A slot that is nil is ignored.
func numbers(attrs []netlink.Attribute, into map[uint16]*int) {
	for _, a := range attrs {
		p := into[a.Type]
		if p == nil {
			continue
		}
		switch len(a.Data) {
		case 1:
			*p = int(a.Data[0])
		case 4:
			*p = int(binary.NativeEndian.Uint32(a.Data))
		}
	}
}

// fill asks everything about one interface.
func (e *ethtool) fill(n *hal.NIC) {
	n.Channels = e.channels(n.Name)
	n.Rings = e.rings(n.Name)
	n.Coalesce = e.coalesce(n.Name)
	n.RSS = e.rss(n.Name)
	n.Features = e.features(n.Name)
	n.Timestamping = e.timestamping(n.Name)
}

func (e *ethtool) channels(nic string) hal.Answer[hal.Channels] {
	var c hal.Channels
	attrs, err := e.ask(unix.ETHTOOL_MSG_CHANNELS_GET, nic, nil)
	if err != nil {
		return hal.Answer[hal.Channels]{Status: refusal(err)}
	}
	numbers(attrs, map[uint16]*int{
		unix.ETHTOOL_A_CHANNELS_RX_COUNT: &c.RX, unix.ETHTOOL_A_CHANNELS_RX_MAX: &c.RXMax,
		unix.ETHTOOL_A_CHANNELS_TX_COUNT: &c.TX, unix.ETHTOOL_A_CHANNELS_TX_MAX: &c.TXMax,
		unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT: &c.Combined, unix.ETHTOOL_A_CHANNELS_COMBINED_MAX: &c.CombinedMax,
	})
	return hal.Load(c)
}

func (e *ethtool) rings(nic string) hal.Answer[hal.Rings] {
	var g hal.Rings
	attrs, err := e.ask(unix.ETHTOOL_MSG_RINGS_GET, nic, nil)
	if err != nil {
		return hal.Answer[hal.Rings]{Status: refusal(err)}
	}
	numbers(attrs, map[uint16]*int{
		unix.ETHTOOL_A_RINGS_RX: &g.RX, unix.ETHTOOL_A_RINGS_RX_MAX: &g.RXMax,
		unix.ETHTOOL_A_RINGS_TX: &g.TX, unix.ETHTOOL_A_RINGS_TX_MAX: &g.TXMax,
	})
	return hal.Load(g)
}

func (e *ethtool) coalesce(nic string) hal.Answer[hal.Coalesce] {
	var c hal.Coalesce
	attrs, err := e.ask(unix.ETHTOOL_MSG_COALESCE_GET, nic, nil)
	if err != nil {
		return hal.Answer[hal.Coalesce]{Status: refusal(err)}
	}
	var rx, tx int
	numbers(attrs, map[uint16]*int{
		unix.ETHTOOL_A_COALESCE_RX_USECS: &c.RXMicros, unix.ETHTOOL_A_COALESCE_RX_MAX_FRAMES: &c.RXFrames,
		unix.ETHTOOL_A_COALESCE_TX_USECS: &c.TXMicros, unix.ETHTOOL_A_COALESCE_TX_MAX_FRAMES: &c.TXFrames,
		unix.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX: &rx, unix.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX: &tx,
	})
	c.AdaptiveRX, c.AdaptiveTX = rx != 0, tx != 0
	return hal.Load(c)
}

func (e *ethtool) rss(nic string) hal.Answer[hal.RSS] {
	var s hal.RSS
	attrs, err := e.ask(unix.ETHTOOL_MSG_RSS_GET, nic, nil)
	if err != nil {
		return hal.Answer[hal.RSS]{Status: refusal(err)}
	}
	for _, a := range attrs {
		switch a.Type {
		case rssHashFunc:
			if len(a.Data) == 4 {
				s.HashFunc = binary.NativeEndian.Uint32(a.Data)
			}
		case rssTable:
			for i := 0; i+4 <= len(a.Data); i += 4 {
				s.Table = append(s.Table, int(binary.NativeEndian.Uint32(a.Data[i:])))
			}
		case rssKey:
			s.KeyBytes = len(a.Data)
		}
	}
	if len(s.Table) == 0 {
		return hal.Answer[hal.RSS]{Status: hal.Skip("the device does not spread flows over queues")}
	}
	return hal.Load(s)
}

func (e *ethtool) features(nic string) hal.Answer[[]string] {
	attrs, err := e.ask(unix.ETHTOOL_MSG_FEATURES_GET, nic, nil)
	if err != nil {
		return hal.Answer[[]string]{Status: refusal(err)}
	}
	for _, a := range attrs {
		if a.Type == unix.ETHTOOL_A_FEATURES_ACTIVE {
			return answer(bitset(a.Data), "no offload is active")
		}
	}
	return hal.Answer[[]string]{Status: hal.Skip("the kernel names no feature")}
}

func (e *ethtool) timestamping(nic string) hal.Answer[hal.Timestamping] {
	attrs, err := e.ask(unix.ETHTOOL_MSG_TSINFO_GET, nic, nil)
	if err != nil {
		return hal.Answer[hal.Timestamping]{Status: refusal(err)}
	}
	t := hal.Timestamping{PHC: -1}
	numbers(attrs, map[uint16]*int{unix.ETHTOOL_A_TSINFO_PHC_INDEX: &t.PHC})
	for _, a := range attrs {
		if a.Type == unix.ETHTOOL_A_TSINFO_TIMESTAMPING {
			t.Modes = bitset(a.Data)
		}
	}
	return hal.Load(t)
}

// bitset reads the names of the bits that are set in a verbose bitset (ethtool-netlink.rst, Bit
// sets): without a mask the listed ones are, with one those that have the value flag.
func bitset(data []byte) []string {
	var set []string
	attrs, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return nil
	}
	noMask := false
	for _, a := range attrs {
		noMask = noMask || a.Type&attrTypeMask == unix.ETHTOOL_A_BITSET_NOMASK
	}
	for _, a := range attrs {
		if a.Type&attrTypeMask != unix.ETHTOOL_A_BITSET_BITS {
			continue
		}
		bits, err := netlink.UnmarshalAttributes(a.Data)
		if err != nil {
			return nil
		}
		for _, b := range bits {
			fields, err := netlink.UnmarshalAttributes(b.Data)
			if err != nil {
				return nil
			}
			name, on := "", noMask
			for _, f := range fields {
				switch f.Type & attrTypeMask {
				case unix.ETHTOOL_A_BITSET_BIT_NAME:
					name = strings.TrimRight(string(f.Data), "\x00")
				case unix.ETHTOOL_A_BITSET_BIT_VALUE:
					on = true
				}
			}
			if on && name != "" {
				set = append(set, name)
			}
		}
	}
	return set
}

// setting is a group of numbers that one command sets, in the order in which a value writes them.
type setting struct {
	command uint8
	fields  []field
}

type field struct {
	name string
	attr uint16
}

// settings are the kinds that go over netlink.
var settings = map[hal.Kind]setting{
	hal.ChannelsOf: {unix.ETHTOOL_MSG_CHANNELS_SET, []field{{"rx", unix.ETHTOOL_A_CHANNELS_RX_COUNT}, {"tx", unix.ETHTOOL_A_CHANNELS_TX_COUNT}, {"combined", unix.ETHTOOL_A_CHANNELS_COMBINED_COUNT}}},
	hal.RingsOf:    {unix.ETHTOOL_MSG_RINGS_SET, []field{{"rx", unix.ETHTOOL_A_RINGS_RX}, {"tx", unix.ETHTOOL_A_RINGS_TX}}},
	hal.CoalesceOf: {unix.ETHTOOL_MSG_COALESCE_SET, []field{{"rx-usecs", unix.ETHTOOL_A_COALESCE_RX_USECS}, {"tx-usecs", unix.ETHTOOL_A_COALESCE_TX_USECS}}},
}

// read returns the value of a kind that goes over netlink.
func (e *ethtool) read(k hal.Kind, nic string) (string, error) {
	s := settings[k]
	attrs, err := e.ask(s.command-1, nic, nil) // GET stands before SET in the kernel's list
	if err != nil {
		return "", err
	}
	values := make([]int, len(s.fields))
	into := map[uint16]*int{}
	for i, f := range s.fields {
		into[f.attr] = &values[i]
	}
	numbers(attrs, into)
	var words []string
	for i, f := range s.fields {
		words = append(words, f.name, strconv.Itoa(values[i]))
	}
	return strings.Join(words, " "), nil
}

// write sets a value of a kind that goes over netlink. Fields that stand already are not sent: a
// driver without combined queues refuses even a 0.
func (e *ethtool) write(k hal.Kind, nic, v string) error {
	now, err := e.read(k, nic)
	if err != nil {
		return err
	}
	s := settings[k]
	old, want := strings.Fields(now), strings.Fields(v)
	if len(want) != 2*len(s.fields) {
		return fmt.Errorf("linux: %s %q: %w", k, v, hal.ErrFormat)
	}
	type pair struct {
		attr uint16
		n    uint32
	}
	var send []pair
	for i, f := range s.fields {
		n, err := strconv.ParseUint(want[2*i+1], 10, 32)
		if err != nil || want[2*i] != f.name {
			return fmt.Errorf("linux: %s %q: %w", k, v, hal.ErrFormat)
		}
		if old[2*i+1] != want[2*i+1] {
			send = append(send, pair{f.attr, uint32(n)})
		}
	}
	_, err = e.ask(s.command, nic, func(ae *netlink.AttributeEncoder) {
		for _, p := range send {
			ae.Uint32(p.attr, p.n)
		}
	})
	return err
}
