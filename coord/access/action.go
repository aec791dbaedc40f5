package access

import (
	"slices"
	"strings"
)

// Class is what an action is to those that choose rights: a group in policies (action in Action::"view").
type Class uint8

// The classes, from the harmless to those that make others powerful.
const (
	// ClassNote is what is only recorded: a box does it by itself, or it is about who somebody is. Nobody is asked for permission.
	ClassNote    Class = iota
	ClassView          // see how the site is, but not what programs keep in it
	ClassRead          // read keys and leases
	ClassWrite         // change keys and leases
	ClassOperate       // change boxes, members and the course of the site
	ClassGovern        // say who may do what
	classes
)

var classNames = [classes]string{"note", "view", "read", "write", "operate", "govern"}

// String is the class's name in policies.
func (c Class) String() string {
	if c >= classes {
		return "unknown"
	}
	return classNames[c]
}

// Action is something that somebody may be allowed to do. The zero Action is none.
type Action uint8

// The actions, in the order of their names.
const (
	noAction Action = iota
	AlarmRead
	AlarmSilence
	AlarmTest
	AlarmUnsilence
	AuditAlive
	AuditExport
	AuditHeads
	AuditOverdue
	AuditRead
	AuditResumed
	AuthLogin
	AuthLogout
	AuthPasskey
	AuthPassword
	AuthSession
	AuthSetup
	AuthToken
	AuthUnlock
	BoxRestart
	BoxStart
	BoxStop
	ConfigRead
	ConsoleView
	CrashRead
	DecisionApprove
	DecisionEffect
	DecisionEnd
	DecisionList
	DecisionPropose
	DecisionRefuse
	EvidenceRead
	HALApply
	HALCalibrate
	HALRead
	JoinAsk
	JoinRevoke
	JoinToken
	KVCompact
	KVDelete
	KVGet
	KVPut
	KVSnapshot
	KVWatch
	LeaseGrant
	LeaseKeepAlive
	LeaseRead
	LeaseRevoke
	LogRead
	MemberAdd
	MemberEdit
	MemberList
	MemberPromote
	MemberRemove
	MemberReplace
	MemberRotate
	MemberUpdate
	OperatorAdd
	OperatorDisable
	OperatorEnable
	OperatorPasskey
	OperatorPassword
	OperatorRemove
	OperatorReset
	PolicyPut
	PolicyRemove
	RoleGrant
	RoleList
	RolePut
	RoleRemove
	RoleRevoke
	SessionEnd
	SettingPut
	SettingRemove
	SiteDowngrade
	SiteEpoch
	SiteMoveLeader
	SiteRead
	TokenEpoch
	TokenIssue
	TokenList
	TokenRevoke
	TrustClear
	TrustEvidence
	TrustRead
	TrustSuspect
	UpdateInstall
	UpdateKey
	UpdatePause
	UpdateRead
	UpdateResume
	UpdateRollback
	UpdateSite
	UpdateStep
	actions
)

type actionRow struct {
	name  string
	class Class
	about string
}

var actionTable = [actions]actionRow{
	AlarmRead:        {"alarm.read", ClassView, "see a box's alarms, and how its receivers are reached"},
	AlarmSilence:     {"alarm.silence", ClassOperate, "keep alarms of a box from being told for a time"},
	AlarmTest:        {"alarm.test", ClassOperate, "have a box's receivers told of an alarm that is none"},
	AlarmUnsilence:   {"alarm.unsilence", ClassOperate, "end a silence of a box's alarms"},
	AuditAlive:       {"audit.alive", ClassNote, "a box had nothing to record for an hour"},
	AuditExport:      {"audit.export", ClassOperate, "mark a box's audit records as safe elsewhere, so that they may go"},
	AuditHeads:       {"audit.heads", ClassView, "see the signed heads of audit logs"},
	AuditOverdue:     {"audit.overdue", ClassNote, "a box orders no head of its audit log"},
	AuditRead:        {"audit.read", ClassView, "read a box's audit log: who did what, from where"},
	AuditResumed:     {"audit.resumed", ClassNote, "a box orders heads of its audit log again"},
	AuthLogin:        {"auth.login", ClassNote, "somebody proved, or failed to prove, who they are"},
	AuthLogout:       {"auth.logout", ClassNote, "a session was ended"},
	AuthPasskey:      {"auth.passkey", ClassNote, "somebody proved, or failed to prove, with a passkey who they are"},
	AuthPassword:     {"auth.password", ClassNote, "somebody gave a password again, to change it"},
	AuthSession:      {"auth.session", ClassNote, "a session was not good, or not any more"},
	AuthSetup:        {"auth.setup", ClassNote, "a setup code was used, or tried"},
	AuthToken:        {"auth.token", ClassNote, "a token or a proof of possession was refused"},
	AuthUnlock:       {"auth.unlock", ClassNote, "somebody gave a password for a session that began with a passkey"},
	BoxRestart:       {"box.restart", ClassOperate, "restart a box"},
	BoxStart:         {"box.start", ClassNote, "a box began to run"},
	BoxStop:          {"box.stop", ClassNote, "a box ended"},
	ConfigRead:       {"config.read", ClassView, "see a box's configuration, without its secrets"},
	ConsoleView:      {"console.view", ClassView, "see the console: boxes, links, load, who leads"},
	CrashRead:        {"crash.read", ClassOperate, "read why a box's program ended: what it printed last"},
	DecisionApprove:  {"decision.approve", ClassOperate, "give a box's word for a decision, of a kind that one may ask for"},
	DecisionEffect:   {"decision.effect", ClassNote, "a decision took effect"},
	DecisionEnd:      {"decision.end", ClassNote, "a decision ended and changed nothing"},
	DecisionList:     {"decision.list", ClassView, "see the decisions that are open and those that were made"},
	DecisionPropose:  {"decision.propose", ClassGovern, "propose any decision, with a box's word for it"},
	DecisionRefuse:   {"decision.refuse", ClassOperate, "withhold a box's word from a decision"},
	EvidenceRead:     {"evidence.read", ClassView, "see the proofs of lies that a box keeps"},
	HALApply:         {"hal.apply", ClassOperate, "change a box's hardware settings"},
	HALCalibrate:     {"hal.calibrate", ClassOperate, "measure what hardware settings are worth, under load"},
	HALRead:          {"hal.read", ClassView, "see a box's hardware and its settings"},
	JoinAsk:          {"join.ask", ClassNote, "a box asked to join, with a token or without"},
	JoinRevoke:       {"join.revoke", ClassOperate, "take back a token that lets a box join"},
	JoinToken:        {"join.token", ClassOperate, "make a token that lets a box join"},
	KVCompact:        {"kv.compact", ClassOperate, "forget the history of keys"},
	KVDelete:         {"kv.delete", ClassWrite, "delete keys"},
	KVGet:            {"kv.get", ClassRead, "read keys"},
	KVPut:            {"kv.put", ClassWrite, "set keys"},
	KVSnapshot:       {"kv.snapshot", ClassOperate, "copy everything that is kept in the site"},
	KVWatch:          {"kv.watch", ClassRead, "be told of changes of keys"},
	LeaseGrant:       {"lease.grant", ClassWrite, "make a lease"},
	LeaseKeepAlive:   {"lease.keepalive", ClassWrite, "keep a lease alive"},
	LeaseRead:        {"lease.read", ClassRead, "see leases and what hangs on them"},
	LeaseRevoke:      {"lease.revoke", ClassWrite, "end a lease and delete what hangs on it"},
	LogRead:          {"log.read", ClassOperate, "read the ordered log: all messages, keys and values"},
	MemberAdd:        {"member.add", ClassOperate, "make a box a member"},
	MemberEdit:       {"member.edit", ClassOperate, "change a member's name or addresses"},
	MemberList:       {"member.list", ClassView, "see the members and their keys"},
	MemberPromote:    {"member.promote", ClassOperate, "make a learner a member (etcd's; there are none)"},
	MemberRemove:     {"member.remove", ClassOperate, "remove a member"},
	MemberReplace:    {"member.replace", ClassOperate, "put a new box in the place of a member"},
	MemberRotate:     {"member.rotate", ClassOperate, "give a member a new key"},
	MemberUpdate:     {"member.update", ClassOperate, "change a member's addresses (etcd's)"},
	OperatorAdd:      {"operator.add", ClassGovern, "make somebody an operator"},
	OperatorDisable:  {"operator.disable", ClassGovern, "lock an operator out"},
	OperatorEnable:   {"operator.enable", ClassGovern, "let a disabled operator in again"},
	OperatorPasskey:  {"operator.passkey", ClassGovern, "change an operator's passkeys; each may change their own"},
	OperatorPassword: {"operator.password", ClassGovern, "change an operator's password and key; each may change their own"},
	OperatorRemove:   {"operator.remove", ClassGovern, "make somebody an operator no more"},
	OperatorReset:    {"operator.reset", ClassGovern, "give an operator a new key under a new password"},
	PolicyPut:        {"policy.put", ClassGovern, "set a policy"},
	PolicyRemove:     {"policy.remove", ClassGovern, "remove a policy"},
	RoleGrant:        {"role.grant", ClassGovern, "give a principal a role, at most one's own"},
	RoleList:         {"role.list", ClassView, "see roles, grants and policies"},
	RolePut:          {"role.put", ClassGovern, "define a role"},
	RoleRemove:       {"role.remove", ClassGovern, "remove a role"},
	RoleRevoke:       {"role.revoke", ClassGovern, "take a role from a principal"},
	SessionEnd:       {"session.end", ClassGovern, "end a session of another operator; each may end their own"},
	SettingPut:       {"setting.put", ClassGovern, "change a setting of the site"},
	SettingRemove:    {"setting.remove", ClassGovern, "put a setting of the site back to what ships"},
	SiteDowngrade:    {"site.downgrade", ClassOperate, "have the site speak an older protocol (etcd's)"},
	SiteEpoch:        {"site.epoch", ClassNote, "a box follows the site into an epoch"},
	SiteMoveLeader:   {"site.move_leader", ClassOperate, "let another box lead"},
	SiteRead:         {"site.read", ClassView, "see the site's state: height, epoch, alarms"},
	TokenEpoch:       {"token.epoch", ClassGovern, "end all capability tokens at once"},
	TokenIssue:       {"token.issue", ClassOperate, "issue capability tokens, at most for what one may do"},
	TokenList:        {"token.list", ClassView, "see which tokens are revoked"},
	TokenRevoke:      {"token.revoke", ClassOperate, "revoke a capability token"},
	TrustClear:       {"trust.clear", ClassNote, "a box is not suspected any more"},
	TrustEvidence:    {"trust.evidence", ClassNote, "a box found the proof of a lie"},
	TrustRead:        {"trust.read", ClassView, "see how boxes are judged, and why"},
	TrustSuspect:     {"trust.suspect", ClassNote, "a box suspects another"},
	UpdateInstall:    {"update.install", ClassOperate, "install other firmware on a box"},
	UpdateKey:        {"update.key", ClassGovern, "say whose firmware boxes install: the keys that sign it"},
	UpdatePause:      {"update.pause", ClassOperate, "keep further boxes from changing to the site's new firmware"},
	UpdateRead:       {"update.read", ClassView, "see which firmware a box runs and has"},
	UpdateResume:     {"update.resume", ClassOperate, "have boxes change to the site's new firmware again"},
	UpdateRollback:   {"update.rollback", ClassOperate, "go back to the firmware before, on a box or on all"},
	UpdateSite:       {"update.site", ClassOperate, "install other firmware on all boxes, one after the other"},
	UpdateStep:       {"update.step", ClassNote, "a box says how it is with new firmware"},
}

// String is the action's name, area.verb.
func (a Action) String() string {
	if a >= actions {
		return "unknown"
	}
	return actionTable[a].name
}

// About says in a line what the action is.
func (a Action) About() string {
	if a >= actions {
		return ""
	}
	return actionTable[a].about
}

// Class is the group of the action.
func (a Action) Class() Class {
	if a >= actions {
		return ClassNote
	}
	return actionTable[a].class
}

// Area is what stands before the dot.
func (a Action) Area() string {
	area, _, _ := strings.Cut(a.String(), ".")
	return area
}

// MarshalText makes JSON show an action as its name.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// ParseAction finds the action of that name.
func ParseAction(name string) (Action, bool) {
	rows := actionTable[1:]
	i, ok := slices.BinarySearchFunc(rows, name, func(r actionRow, n string) int { return strings.Compare(r.name, n) })
	return Action(i + 1), ok
}

// Actions are all actions, in the order of their names.
func Actions() []Action {
	list := make([]Action, 0, actions-1)
	for a := noAction + 1; a < actions; a++ {
		list = append(list, a)
	}
	return list
}

// actionSet is a bit for each action.
type actionSet [2]uint64

func (s *actionSet) add(a Action)      { s[a>>6] |= 1 << (a & 63) }
func (s *actionSet) has(a Action) bool { return s[a>>6]&(1<<(a&63)) != 0 }

// namedActions are the actions that a name in a policy stands for: one action, an area, a class. ok is whether
// there is such a name.
func namedActions(name string) (set actionSet, ok bool) {
	for a := noAction + 1; a < actions; a++ {
		if a.String() == name || a.Area() == name || a.Class().String() == name {
			set.add(a)
			ok = true
		}
	}
	return set, ok
}
