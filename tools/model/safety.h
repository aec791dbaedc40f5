/* The rules of coord/bft as predicates over everything that was ever signed: n = 4, boxes 0..2 honest, box 3
 * lies and has signed every vote of every kind for everybody. The soup only grows and a guard asks only whether
 * a certificate exists in it, so any order, delay, loss and leader is covered, and boxes act in rounds in any
 * order, which is more than the code does. Every parent and VAR contents are on offer in every round. */
#define H 3
#ifdef M_QUORUM
#define Q 2
#else
#define Q 3
#endif
static int total(int r){int t=1;while(r-->0)t*=1+VAR;return t;} /* blocks of rounds 0..r; 0 is the base */
static int rnd(int b){int r=0;while(b>=total(r))r++;return r;}
static int par(int b){return (b-total(rnd(b)-1))/VAR;}
static int term(int r){return (r-1)/K;}
static int first(int t){return t*K+1;}
static int pc(int m){return (m&1)+((m>>1)&1)+((m>>2)&1);}
static int ncert(int b){
	if(b==0)return 1;
#ifdef M_NODIGEST
	{int r=rnd(b),m=0,x;for(x=total(r-1);x<total(r);x++)m|=now.V[x];return now.V[b]&&pc(m)+1>=Q;}
#else
	return pc(now.V[b])+1>=Q;
#endif
}
static int fcert(int b){return b==0||pc(now.F[b])+1>=Q;}
/* an empty certificate of term t that counts with the notarization of round p: its level is the highest of its
 * votes' levels, so those up to the allowed level are counted */
static int ecert(int t,int p){
	int l,m=0,top=max(p+1,first(t));
#if defined(M_LEVELANY)
	top=first(t)+K-1;
#endif
	for(l=first(t);l<=top&&l<=R;l++)m|=now.E[l];
#ifdef M_OTHERTERM
	for(l=1;l<=R;l++)m|=now.E[l];
#endif
	return pc(m)+1>=Q;
}
static int voted(unsigned char*X,int i,int r){int x;for(x=total(r-1);x<total(r);x++)if(X[x]>>i&1)return 1;return 0;}
static int can_vote(int i,int b){
	int r=rnd(b),p=rnd(par(b)),t;
	if(now.V[b]>>i&1)return 0;
#ifndef M_FORGETVOTE
	if(voted(now.V,i,r))return 0;
#endif
#ifndef M_PARENT
	if(!ncert(par(b)))return 0;
#endif
	if(r!=p+1){
#ifndef M_GAPINSIDE
		if(r!=first(term(r)))return 0;
#endif
#ifndef M_GAP
		for(t=term(p+1);t<=term(r-1);t++){
			if(!ecert(t,p))return 0;
#ifdef M_GAPFIRSTONLY
			break;
#endif
		}
#endif
	}
	return 1;
}
static int can_empty(int i,int l){
	int r,k;
	for(r=first(term(l)),k=0;k<K&&r<=R;k++,r++){
		if(now.E[r]>>i&1
#ifdef M_EMPTIES
			&&r==l
#endif
		)return 0;
#ifndef M_EMPTYAFTERFIN
		if(r>=l&&voted(now.F,i,r))return 0;
#endif
	}
	return 1;
}
static int can_fin(int i,int b){
	int r=rnd(b),l;
	if(now.F[b]>>i&1)return 0;
#ifndef M_FINTWICE
	if(voted(now.F,i,r))return 0;
#endif
#ifndef M_FINAFTEREMPTY
	for(l=first(term(r));l<=r;l++)if(now.E[l]>>i&1)
#ifdef M_FINABOVEEMPTY
		if(l==r)
#endif
		return 0;
#endif
#ifndef M_FINUNNOTARIZED
	if(!ncert(b))return 0;
#endif
	return 1;
}
static int anc(int a,int b){while(rnd(b)>rnd(a))b=par(b);return a==b;}
static int agree(void){
	int a,b;
	for(a=1;a<total(R);a++)if(fcert(a))for(b=a+1;b<total(R);b++)if(fcert(b)&&!anc(a,b)&&!anc(b,a))return 0;
	return 1;
}
/* ORDERED: guards depend on votes of earlier rounds, which only become more, on one box's own votes of the round,
 * and on the exclusion of finalize and empty votes, which is symmetric; so every run of the correct rules can be permuted
 * to the order of rounds with the same votes at its end, and agreement is a property of those. Not for mutants that break the symmetry. */
static int top(void){
	int r,i;for(r=R;r>0;r--){if(now.E[r])return r;for(i=0;i<H;i++)if(voted(now.V,i,r)||voted(now.F,i,r))return r;}return 0;
}
#ifdef ORDERED
#define ordr(r) (top()<=(r))
#else
#define ordr(r) 1
#endif
