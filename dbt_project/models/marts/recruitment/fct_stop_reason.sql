{{ config(
    unique_key="stop_reason_key",
    indexes=[
        {"columns": ["stop_reason_key"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["reason"], "type": "spgist"},
    ],
) }}

with

-- What a text says, by regular expressions on it in lower case: a reason for each rule that fits.
-- \m and \M are the beginning and the end of a word, [^.;] stays within a sentence. A session keeps
-- 32 compiled expressions: with more, here and below, each would be compiled anew for each text.
rules (reason, rule, pattern) as (
    values
    (
        'enrollment', 'slow, low or no enrollment',
        '\m((slow|low|poor|lack|lag|insufficient|inadequate|difficult|inabilit|unable|fail'
        || '|problem|declin|challeng|limit|few|unsuccessful|cannot|absence|short|barrier|decreas'
        || '|impossib|feasib)\w*|no(?! longer)|none|zero|not|never|only|bad|hard|could not'
        || '|unfor\w+ problems)\M[^.;]{0,40}\m(enrol|accru|recruit|recuit|inclu(sion|de patient)'
        || '|to include\M|screening|randomi)'
    ),
    (
        'enrollment', 'enrollment slow, low or none',
        '\m(enrol|accru|recruit|recuit|inclusion)\w*[^.;]{0,40}\m(slow|low|poor|lack|lag'
        || '|insufficient|inadequate|difficult|inabilit|unable|fail|problem|challeng|limited'
        || '|behind|issue|zero|bad|short|barrier|not (\w+ )?(enough|sufficient|met|meet|reach'
        || '|achiev|possible|feasible)|(too|very|took|taking) (too )?(slow|low|few|long|small)'
        || '|unrealistic|impossible)'
    ),
    (
        'enrollment', 'too few people',
        '\m(lack|lac|absence|shortage|no|none|few|fewer|insufficient|inadequate|not enough'
        || '|too small|low|lower|small|limited?|decrease\w*|only \w+|(unable|fail\w*|difficult\w*'
        || '|not) (to )?(find|detect|identify|locate))( of| in| the| a| an| no\.?| more| number'
        || '| numbers| sufficient| enough| new| eligible| suitable| available| adequate'
        || '| appropriate| potential| qualified| willing| interested| study| trial| research'
        || '| allergic| wheat| [a-z]+-naive)* (patient|participant|subject|volunteer|volounteer'
        || '|candidate|case|people|met criteria)|without (any )?(patient|participant|subject)s? '
        || '(enrolled|included)|\m(not|unable|fail\w*|inabil\w*)[^;]{0,40}(number|\mno\.) of '
        || '(\w+ )?(patient|participant|subject)'
    ),
    (
        'enrollment', 'the word alone',
        '^\W*(the )?(patient|subject|participant|study)? ?(enrol+ment|recruitment|accrual)\W*$'
    ),
    (
        'funding', 'money',
        '\m(fund(s|ed|er|ers|ing|ings)?|financ\w*|grants?|grands|budget\w*|money|monetary'
        || '|sponsoring|sponsorship|reimburse\w*|costs?|costly|expensive|economic\w*)\M'
    ),
    (
        'business', 'decision of the sponsor',
        '\m(sponsor|company|manufacturer|corporate|internal|operational'
        || '|management)(''?s)?[ /](\w+ ){0,4}(decision|decided|chose|declined|request|withdr\w+'
        || '|terminat\w+|discontinu\w+|cancel\w+|will not|has no interest)|(decision|decided'
        || '|request|terminated|stopped|cancel\w+|withdrawn|suspended|discontinued|closed) '
        || '(\w+ ){0,3}(of|by|from) (the )?(study |trial )?(sponsor|company|manufacturer)'
    ),
    (
        'business', 'business, strategy or administration',
        '\m(business|commercial\w*|strateg\w*|portfolio|pipeline|corporate|administrat\w*'
        || '|priorit\w*|re-?priorit\w*|development (plan|program|option)\w*|ceased '
        || '(\w+ )?development|not (be )?marketed|organi[sz]ational|reorgani[sz]ation)\M'
        || '|\mr\\?&\\?d\M|research and development|\mto focus (on|\w*resourc)'
    ),
    (
        'business', 'a company changed or closed',
        '\m(bankrupt\w*|acquisition of (the )?(company|sponsor)|acquired by|merger|insolven\w*'
        || '|intellectual property|liquidat\w*)\M|\m(company|sponsor|manufacturer|startup'
        || '|start-up)\M[^.;]{0,20}\m(closed|shut|dissol\w+|changed)|(change (of|in)|another'
        || '|new) spons[oe]r|cooperation plan'
    ),
    (
        'safety', 'safety',
        '\m(safety|unsafe|adverse|toxic\w*|side.?effects?|hepatotox\w*|cardiotox\w*|saes?|dlts?'
        || '|overdos\w*|tolera(bility|nce|ted|te)|intolera\w*|harm(ful|s)?|stopping rules? for'
        || '|risk.{1,3}benefit|benefit.{1,3}risk|complications?)\M'
    ),
    (
        'safety', 'more illness or deaths',
        '\m(increas|high|excess|elevated|abnormal|unexpected|greater)\w*( \w+){0,4} (incidence'
        || '|mortality|deaths?|bleeding|rates? of|infections?|events|laborator\w+|lymphodepletion'
        || '|relapses?)|\m(high|increased) incidence'
    ),
    (
        'efficacy', 'futility',
        '\mfutil'
    ),
    (
        'efficacy', 'no effect',
        '\m(lack|no|low|little|insufficient|without|not|did not show|absence)( \w+){0,4} '
        || '(efficacy|effects?|effective|effectiveness|benefit|benefits|differences?|response'
        || '|activity|improvement|efficacious)\M|\mineffective|\minefficac'
    ),
    (
        'efficacy', 'an endpoint missed',
        '\m(not|fail\w*|unlikely|unable|inability|never)( \w+){0,3} (meet|met|reach|achiev|show'
        || '|demonstrat)\w*[^.;]{0,50}(end.?point|primary|efficacy|superiority|significan|benefit'
        || '|effect)|(end.?points?|primary)[^.;]{0,30}\mnot( \w+)? (met|reached|achieved)'
    ),
    (
        'efficacy', 'efficacy, or a negative result',
        '\m(efficacy|negative (\w+ )?(result|analys|interim|trial|outcome|data)\w*'
        || '|unfavou?rable (\w+ )?(result|outcome|data|benefit)\w*|inferior\w*)'
    ),
    (
        'covid19', 'COVID-19',
        'covid|corona ?virus|sars-?cov|\mpandemic|\mcorona\M|\mncov'
    ),
    (
        'logistics', 'somebody left',
        '\m(pi|p\.i\.|investigators?|physicians?|doctor|dr\.?|researchers?|faculty|person'
        || '|surgeon|staff|coordinator|student|fellow|resident|director|manager|author'
        || '|members?)\M[^.;]{0,60}\m(left|leav\w+|moved|moving|move|depart\w*|resign\w*|retire\w*'
        || '|relocat\w*|transfer\w*|died|deceased|death|passed away|no longer|graduat\w*|chang\w+ '
        || '(institution|job|position)s?)\M|\mdr\.? \w+( \w+){0,2} (left|leav\w+|moved|retired'
        || '|(is )?no longer)\M|\m(leaving|left) (the |our |this )?(\w+ )?(institution|university'
        || '|hospital|nih|center|department)|(change|switch\w*) (of|in) (pi|investigator'
        || '|institution)'
    ),
    (
        'logistics', 'staff, time or other resources',
        '\m(staff\w*|understaff\w*|personnel|manpower|human resources?|resources?|logistic\w*'
        || '|workload|capacit(y|ies)|time constraints?|lack of (\w+ )?time|clinical time'
        || '|scheduling|feasibility reasons?|infrastructure|technical|availability of (the )?(pi'
        || '|investigator)|pi availability)\M|^\W*(lack of )?feasibility\W*$'
    ),
    (
        'logistics', 'supply of a drug, device or material',
        '\m(drug|device|product|medication|equipment|kits?|compound|diet|machine|imp|vaccine'
        || '|treatment|formulation|agent|reagents?|material|placebo'
        || '|software)s?\M[^.;]{0,50}\m(shortages?|supply|unavailab\w*|not available|no longer '
        || '(\w+ )?available|availability|recall\w*|expir\w*|resupply|discontinued|not get)'
        || '|\m(shortage|supply|availability|unavailability|lack|recall) of( \w+){0,3} (drug'
        || '|device|product|medication|equipment|kits?|compound|vaccine|material)|\mdrug.shortage'
        || '|could not get[^.;]{0,30}(equipment|drug|device)|(pharmaceutical|product) support'
        || '|manufactur\w+ (delay|issue|problem)|halt manufactur|malfunction'
    ),
    (
        'logistics', 'a site closed or did not open',
        '\m(site|center|centre|hospital|clinic|unit|laboratory|lab|department)s?\M( \w+){0,3} '
        || '(closed|closure|closing|shut|not (open|activat)\w*|withdrew)\M|not activated at'
    ),
    (
        'regulatory', 'an authority or ethics committee',
        '\m(fda|ema|mhra|bfarm|pmda|anvisa|nmpa|ansm|irb|iec|reb|ethic\w*|unethical'
        || '|regulator\w*|agenc(y|ies)|authorit(y|ies)|authori[sz]ation|clinical hold'
        || '|institutional review|health canada|ministry|ind application|disapprov\w*'
        || '|licen[sc]e)\M|(no|not|lack of|without|pending|await\w*|den(y|ied)|refus\w*'
        || '|reject\w*)( \w+){0,2} approval'
    ),
    (
        'none given', 'says only that it stopped',
        '^\W*(early |premature(ly)? |the |this |our |project |study |trial |protocol '
        || '|recruit\w* |has |have |had |was |is |been |be |to |it |never |not )*(terminat\w*'
        || '|withdr\w*|stop\w*|suspend\w*|complet\w*|finish\w*|end|ended|abandon\w*|halt\w*'
        || '|clos\w*|start\w*|cancel\w*|discontinu\w*|pursued?)( early| prematurely'
        || '| prior to beginning| per pi| by pi)*\W*$|^\W*(the |per )?(pi|investigators?) (has '
        || '|have )?(decided|study was)( not)?( to| terminated)( \w+){0,4}\W*$|^\W*(n/?a|none'
        || '|others?|unknown|other reasons?|not applicable|see above|not specified)?\W*$'
    )
),

stopped as (
    select
        nct_id,
        overall_status,
        why_stopped
    from {{ of_changed_studies(ref("stg_studies")) }}
    where
        overall_status in ('SUSPENDED', 'TERMINATED', 'WITHDRAWN')
        or why_stopped is not null
),

-- What is said to be no reason, and names of committees, are left out before rules are tried.
texts as (
    select
        nct_id,
        overall_status,
        why_stopped,
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    translate(lower(coalesce(why_stopped, '')), '’‘', ''''''), '\s+', ' ', 'g'
                ),
                '(independent )?data (and |& )?(safety )?(and )?(monitoring|review) '
                || '(board|committee)s?|\m(dsmb|idmc|dmc|dsmc)\M|(irb|ethics)[- ]approved'
                || '|irb study closure|irb approv\w+',
                ' ', 'g'
            ),
            -- … not due to safety or efficacy; up to the end of the clause
            '\m(not|n''t|nor|neither|isn''t|wasn''t)( (a|an|the|any|in|way|made|taken|be|been'
            || '|terminated|stopped|discontinued|closed|directly|was|is))* (due|because|for|related'
            || '|relating|based|driven|caused|result|consequence|prompted|linked|influenced'
            || '|motivated|associated|attribut\w+|a?ffected|connected|owing|safety|triggered)\M'
            || '((?!\m(but|rather|instead|however|only)\M)[^.;:()])*'
            || '|\m(un|non[- ]?)(related|safety)( to)?\M((?!\mbut\M)[^.;:()])*'
            -- … no new safety signals were seen
            || '|\m(no|without|rather than|nor)( (any|new|unexpected|serious|major|specific'
            || '|related|other|additional|further|apparent|known|drug|data|concerning))* '
            || '(safety|efficacy|adverse|tolerability|toxicit\w*)'
            || '([ /,]+(or |and )?(safety|efficacy|tolerability))?( \w+){0,3} (concern|signal'
            || '|issue|finding|observation|reason|event|problem|risk)\w*'
            || '((?!\m(but|however)\M)[^.;:()])*',
            ' ', 'g'
        ) as said
    from stopped
),

found as (
    select
        texts.nct_id,
        rules.reason,
        string_agg(rules.rule, '; ' order by rules.rule) as rules
    from texts
    inner join rules on texts.said ~ rules.pattern
    group by texts.nct_id, rules.reason
),

-- A text that says something has no need of the rule for one that says nothing.
told as (
    select
        *,
        bool_or(reason <> 'none given') over (partition by nct_id) as is_reason_found
    from found
)

select
    {{ surrogate_key(["texts.nct_id", "coalesce(told.reason, 'other')"]) }} as stop_reason_key,
    texts.nct_id,
    texts.overall_status,
    coalesce(told.reason, 'other') as reason,
    told.rules,
    texts.why_stopped
from texts
left join told
    on
        texts.nct_id = told.nct_id
        and (told.reason <> 'none given' or not told.is_reason_found)
