"""What stands in a template's slot: names, places, dates and numbers by the tens of thousands, from Faker and our own lists."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from faker import Faker

from classifiers.training import vocabulary as words

LOCALES = (
    "en_US", "en_US", "en_US", "en_GB", "en_AU", "en_CA", "en_IN", "en_NZ", "en_IE", "de_DE", "de_AT", "de_CH", "fr_FR", "fr_CA", "es_ES", "es_MX",
    "es_CO", "it_IT", "pt_BR", "pt_PT", "nl_NL", "nl_BE", "pl_PL", "cs_CZ", "sk_SK", "hu_HU", "ro_RO", "sv_SE", "no_NO", "da_DK", "fi_FI",
    "hr_HR", "sl_SI", "tr_TR", "et_EE", "lt_LT", "lv_LV", "id_ID", "fil_PH", "tw_GH", "vi_VN", "zu_ZA",
)  # fmt: skip
ENGLISH = ("en_US", "en_GB", "en_AU", "en_CA", "en_IN", "en_NZ", "en_IE")
BY_LANGUAGE = {"es": ("es_ES", "es_MX", "es_CO"), "de": ("de_DE", "de_AT", "de_CH"), "fr": ("fr_FR", "fr_CA")}
POOL = 3_000
"""Names of a kind drawn from a locale."""
HELD_OUT = 10
"""One name of so many is never trained on: scores are told of those."""
ROMANISED = (
    "Mohammed Ahmed Fatima Aisha Omar Khalid Yusuf Hassan Ibrahim Layla Zainab Tariq Wei Jing Li Xiaoming Mei Hui Fang Jun Yan Ling Chen Yuki Haruto Sakura Kenji "
    "Hiroshi Takashi Aiko Naoko Min-jun Ji-woo Seo-yeon Hyun-woo Priya Arjun Rahul Anjali Deepak Sanjay Olga Dmitri Sergei Natalia Svetlana Ivan Oleksandr Kwame Kofi Ama "
    "Chidi Ngozi Emeka Oluwaseun Thabo Sipho Nomsa Amara Abebe Tesfaye",
    "Al-Farsi Haddad Mansour Khan Hussein Abdi Osman Rahman Zhang Wang Chen Liu Yang Huang Zhao Wu Zhou Xu Sun Tanaka Suzuki Sato Watanabe Yamamoto Nakamura Kobayashi Kim "
    "Park Choi Jung Kang Nguyen Tran Pham Patel Sharma Gupta Singh Reddy Iyer Ivanov Petrov Smirnov Kuznetsov Volkov Shevchenko Kovalenko Mensah Okafor Adeyemi Nwosu Okonkwo "
    "Dlamini Nkosi Zulu Bekele Haile Abebe",
)
MONTHS = words._words("January; February; March; April; May; June; July; August; September; October; November; December")
DAYS = words._words("Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday")
MONTHS_IN = {
    "es": words._words("enero; febrero; marzo; abril; mayo; junio; julio; agosto; septiembre; octubre; noviembre; diciembre"),
    "de": words._words("Januar; Februar; März; April; Mai; Juni; Juli; August; September; Oktober; November; Dezember"),
    "fr": words._words("janvier; février; mars; avril; mai; juin; juillet; août; septembre; octobre; novembre; décembre"),
}
STATES = [
    "AL",
    "AK",
    "AZ",
    "AR",
    "CA",
    "CO",
    "CT",
    "DE",
    "FL",
    "GA",
    "HI",
    "ID",
    "IL",
    "IN",
    "IA",
    "KS",
    "KY",
    "LA",
    "ME",
    "MD",
    "MA",
    "MI",
    "MN",
    "MS",
    "MO",
    "MT",
    "NE",
    "NV",
    "NH",
    "NJ",
    "NM",
    "NY",
    "NC",
    "ND",
    "OH",
    "OK",
    "OR",
    "PA",
    "RI",
    "SC",
    "SD",
    "TN",
    "TX",
    "UT",
    "VT",
    "VA",
    "WA",
    "WV",
    "WI",
    "WY",
]
RELATIVE = words._words(
    "yesterday; tomorrow; today; last week; next week; this morning; last night; two days ago; next month; soon; later; tonight; right now; this year; a while ago"
)
PHRASES = words._words(
    "good morning, how are you; where is the station; the early bird catches the worm; I would like a cup of coffee; she sells sea shells; time flies; "
    "practice makes perfect; the weather is lovely today; knowledge is power; we are going to the beach; the cat sat on the mat; them apples is good; "
    "he don't like it; I has two brothers; what a wonderful world; silence is golden; the night was dark and full of stars"
)
PLAIN = words._words(
    "happy; run; table; river; cloud; orange; music; window; forest; silver; button; parser; handler; index; value; buffer; token; config; index; "
    "cache; result; module; system; method; growth; temperature; garden; castle; winter; effect; signal; model; light; stone; paper"
)
ERRORS = words._words(
    "IndexError: list index out of range; KeyError: 'name'; ECONNREFUSED; NullPointerException; segmentation fault; TypeError: x is not a function; error 404; CORS error; ModuleNotFoundError"
)
HOSTS = words._words(
    "db01; web-03; srv-prod-12; build-agent-7; mail.corp; vpn-gw2; k8s-node-14; nas01.local; jenkins.internal; pg-replica-2; app-eu-1.internal"
)

Piece = tuple[str, str | None]


def held_out(name: str) -> bool:
    """Whether a name is kept from training."""
    return crc32(name.lower().encode()) % HELD_OUT == 0


@dataclass
class Names:
    """First names, last names, streets, cities and companies of one locale."""

    first: list[str]
    last: list[str]
    streets: list[str]
    cities: list[str]
    countries: list[str]
    companies: list[str]
    phones: list[str]
    zips: list[str]


def pool(locale: str, seed: int, size: int = POOL) -> Names:
    """What Faker has for a locale."""
    fake = Faker(locale)
    fake.seed_instance(seed)

    def many(name: str, count: int) -> list[str]:
        try:
            make = getattr(fake, name)
            return [make() for _ in range(count)]
        except AttributeError:
            return []

    return Names(
        first=many("first_name", size), last=many("last_name", size), streets=many("street_address", size // 2), cities=many("city", size),
        countries=many("country", size // 4), companies=many("company", size // 2), phones=many("phone_number", size), zips=many("postcode", 500),
    )  # fmt: skip


@dataclass
class Entities:
    """Fills slots. `evaluating`: with the names that training never sees."""

    seed: int
    evaluating: bool = False
    gazetteer: dict[str, list[str]] = field(default_factory=dict)
    wiki: Sequence[list[Piece]] = ()

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.pools = {locale: pool(locale, crc32(locale.encode()) + self.seed % 7) for locale in sorted(set(LOCALES))}
        self.pools["romanised"] = Names(ROMANISED[0].split(), ROMANISED[1].split(), [], [], [], [], [], [])
        for names in self.pools.values():
            for kind in ("first", "last", "cities", "companies"):
                kept = [n for n in getattr(names, kind) if held_out(n) == self.evaluating]
                setattr(names, kind, kept or getattr(names, kind))
        self.language = "en"
        self.slots: dict[str, Callable[[], list[Piece]]] = {
            name.removeprefix("slot_"): getattr(self, name) for name in dir(self) if name.startswith("slot_")
        }

    # -- choosing

    def pick(self, items: Sequence[str]) -> str:
        return items[int(self.rng.random() * len(items))]

    def locale(self) -> Names:
        """A locale's names: for English text mostly English ones, else those of the text's language."""
        if self.language != "en":
            return self.pools[self.pick(BY_LANGUAGE[self.language])]
        chance = self.rng.random()
        if chance < 0.5:
            return self.pools[self.pick(ENGLISH)]
        return self.pools["romanised"] if chance < 0.55 else self.pools[self.pick(LOCALES)]

    def home(self) -> Names:
        """As `locale`, but one that has streets, cities and companies."""
        while not (found := self.locale()).cities:
            pass
        return found

    def text(self, name: str) -> str:
        """A slot's text without its labels."""
        return "".join(piece for piece, _ in self.slots[name]())

    # -- people

    def full_name(self) -> str:
        names = self.locale()
        first, last = self.pick(names.first), self.pick(names.last)
        chance = self.rng.random()
        if chance < 0.08:
            return f"{first} {self.pick(names.first)} {last}"
        if chance < 0.14:
            return f"{first} {self.pick(string.ascii_uppercase)}. {last}"
        if chance < 0.18:
            return f"{self.pick(string.ascii_uppercase)}. {last}"
        if chance < 0.21:
            return f"{first} {last}-{self.pick(names.last)}"
        if chance < 0.24:
            return f"{last}, {first}"
        if chance < 0.26:
            return f"{first} {self.pick(('van', 'de', 'von', 'van der', 'del', 'bin', 'al', 'O’', 'Mc'))} {last}"
        if chance < 0.28:
            return f"{first} {last} {self.pick(('Jr.', 'Sr.', 'III', 'II', 'PhD', 'MD'))}"
        return f"{first} {last}"

    def slot_person(self) -> list[Piece]:
        if self.gazetteer.get("PERSON") and self.language == "en" and self.rng.random() < 0.06:
            return [(self.pick(self.gazetteer["PERSON"]), "PERSON")]
        return [(self.full_name(), "PERSON")]

    def slot_first(self) -> list[Piece]:
        return [(self.pick(self.locale().first), "PERSON")]

    def slot_last(self) -> list[Piece]:
        return [(self.pick(self.locale().last), "PERSON")]

    def slot_famous(self) -> list[Piece]:
        return [(self.pick(words.FAMOUS), "PERSON")]

    def slot_title(self) -> list[Piece]:
        return [(self.pick(words.TITLES), "TITLE")]

    def slot_title_de(self) -> list[Piece]:
        return [(self.pick(("Dr.", "Prof.", "Prof. Dr.")), "TITLE")]

    def slot_title_person(self) -> list[Piece]:
        return [*self.slot_title(), (" ", None), *self.slot_person()] if self.rng.random() < 0.7 else self.slot_person()

    def slot_title_last(self) -> list[Piece]:
        return [*self.slot_title(), (" ", None), *self.slot_last()]

    def slot_initial(self) -> list[Piece]:
        return [(self.pick(string.ascii_uppercase) + ".", "PERSON")]

    def slot_nrp(self) -> list[Piece]:
        return [(self.pick(words.NRP), "NRP")]

    def slot_job(self) -> list[Piece]:
        jobs = {"es": words.JOBS_ES, "de": words.JOBS_DE, "fr": words.JOBS_FR}.get(self.language, words.JOBS)
        if self.language == "en" and self.rng.random() < 0.2:
            made = f"{self.pick(('senior', 'junior', 'lead', 'assistant', 'deputy', 'chief', 'regional', 'head'))} {self.pick(words.JOBS)}"
            return [(made.title() if self.rng.random() < 0.3 else made, "PROFESSION")]
        job = self.pick(jobs)
        return [(job.title() if self.rng.random() < 0.2 else job, "PROFESSION")]

    def slot_username(self) -> list[Piece]:
        names = self.locale()
        first, last = self.pick(names.first).lower(), self.pick(names.last).lower()
        number = str(self.rng.randint(1, 9999))
        return [(self.pick((
            first + number, first[0] + last, f"{first}_{last}", f"{first}.{last}", first + last + number[:2], f"{self.pick(PLAIN)}_{self.pick(PLAIN)}{number}",
            f"x{first}x", f"{self.pick(PLAIN)}{number}", f"{last}{first[0]}{number[:2]}", f"the_real_{first}", f"{first}-{number}",
        )).replace(" ", ""), "USERNAME")]  # fmt: skip

    # -- organisations and places

    def slot_org(self) -> list[Piece]:
        chance = self.rng.random()
        if chance < 0.2 and self.gazetteer.get("ORGANIZATION") and self.language == "en":
            return [(self.pick(self.gazetteer["ORGANIZATION"]), "ORGANIZATION")]
        if chance < 0.4:
            return [(self.pick(words.ORGANIZATIONS), "ORGANIZATION")]
        if chance < 0.6:
            names = self.home()
            head = self.rng.choice(
                (
                    self.pick(words.ORG_HEAD),
                    self.pick(names.last),
                    self.pick(names.cities),
                    self.pick(PLAIN).title(),
                    f"{self.pick(PLAIN).title()} {self.pick(PLAIN).title()}",
                )
            )
            return [(f"{head} {self.pick(words.ORG_TAIL)}{self.pick(words.ORG_FORM)}", "ORGANIZATION")]
        if chance < 0.75:
            names = self.home()
            made = self.pick(words.INSTITUTION).format(
                city=self.pick(names.cities), first=self.pick(names.first), last=self.pick(names.last), last2=self.pick(names.last),
                last3=self.pick(names.last), ministry=self.pick(words.MINISTRIES),
            )  # fmt: skip
            return [(made, "ORGANIZATION")]
        if chance < 0.8:
            return [("".join(self.rng.choices(string.ascii_uppercase, k=self.rng.randint(2, 5))), "ORGANIZATION")]
        return [(self.pick(self.home().companies), "ORGANIZATION")]

    def slot_hospital(self) -> list[Piece]:
        city, first = self.pick(self.home().cities), self.pick(self.locale().first)
        return [
            (
                self.pick(
                    (
                        f"{city} General Hospital",
                        f"St. {first}'s Hospital",
                        f"{city} Medical Center",
                        f"{city} Clinic",
                        "Mercy Hospital",
                        f"Klinikum {city}",
                    )
                ),
                "ORGANIZATION",
            )
        ]

    def slot_city(self) -> list[Piece]:
        if self.language == "en" and self.gazetteer.get("LOCATION") and self.rng.random() < 0.25:
            return [(self.pick(self.gazetteer["LOCATION"]), "LOCATION")]
        return [(self.pick(self.home().cities), "LOCATION")]

    def slot_country(self) -> list[Piece]:
        return [
            (self.pick(self.pools[self.pick(ENGLISH)].countries if self.language == "en" else self.home().countries), "LOCATION")
        ]

    def slot_place(self) -> list[Piece]:
        return self.slot_city()

    def slot_state(self) -> list[Piece]:
        return [(self.pick(STATES), "LOCATION")]

    def slot_zip(self) -> list[Piece]:
        return [(self.pick(self.home().zips or ["12345"]), "LOCATION")]

    def street(self) -> str:
        street = self.pick(self.home().streets).replace("\n", ", ")
        chance = self.rng.random()
        if chance < 0.06:
            return f"P.O. Box {self.rng.randint(1, 9999)}"
        if chance < 0.15:
            return f"{street}, {self.pick(('Apt', 'Apt.', 'Suite', 'Unit', 'Floor', '#'))} {self.rng.randint(1, 999)}"
        return street

    def slot_address(self) -> list[Piece]:
        return [(self.street(), "STREET_ADDRESS")]

    def address(self, glue: str) -> str:
        names = self.home()
        street, city, code = self.street(), self.pick(names.cities), self.pick(names.zips or ["12345"])
        form = self.rng.random()
        if form < 0.4:
            return f"{street}{glue}{city}, {self.pick(STATES)} {code}"
        if form < 0.65:
            return f"{street}{glue}{code} {city}"
        if form < 0.8:
            return f"{street}{glue}{city} {code}"
        if form < 0.9:
            return f"{street}{glue}{city}{glue}{self.text('country')}"
        return f"{street}{glue}{city}"

    def slot_address_line(self) -> list[Piece]:
        return [(self.address(self.pick((", ", ", ", ", ", " "))), "STREET_ADDRESS")]

    def slot_address_lines(self) -> list[Piece]:
        return [(self.address("\n"), "STREET_ADDRESS")]

    # -- time and age

    def slot_date(self) -> list[Piece]:
        day, month, year = self.rng.randint(1, 28), self.rng.randint(1, 12), self.rng.randint(1930, 2030)
        if self.language != "en":
            name = MONTHS_IN[self.language][month - 1]
            joined = (
                f"{day} de {name} de {year}"
                if self.language == "es"
                else f"{day}. {name} {year}"
                if self.language == "de"
                else f"{day} {name} {year}"
            )
            return [
                (
                    self.pick((joined, f"{day:02}/{month:02}/{year}", f"{day}.{month}.{year}", f"{year}-{month:02}-{day:02}")),
                    "DATE_TIME",
                )
            ]
        name = MONTHS[month - 1]
        short = name[:3]
        return [(self.pick((
            f"{year}-{month:02}-{day:02}", f"{month}/{day}/{year}", f"{day:02}/{month:02}/{year}", f"{day}.{month}.{year}", f"{name} {day}, {year}", f"{day} {name} {year}",
            f"{name} {day}", f"{day} {short} {year}", f"{short} {day}", f"{name} {day}{self.pick(('st', 'nd', 'rd', 'th'))}", f"the {day}th of {name}", f"{month}/{day}/{year % 100:02}",
            f"{self.pick(DAYS)}, {name} {day}", f"{name} {year}", f"{short} {day}, {year}", f"{self.pick(DAYS)}", f"{year}/{month:02}/{day:02}", f"{month}/{day}",
        )), "DATE_TIME")]  # fmt: skip

    def slot_time(self) -> list[Piece]:
        hour, minute = self.rng.randint(0, 23), self.rng.choice((0, 0, 15, 30, 45, 7))
        return [
            (
                self.pick(
                    (
                        f"{hour}:{minute:02}",
                        f"{hour % 12 + 1}:{minute:02} pm",
                        f"{hour % 12 + 1}am",
                        f"{hour % 12 + 1} PM",
                        f"{hour:02}h{minute:02}",
                        "noon",
                    )
                ),
                "DATE_TIME",
            )
        ]

    def slot_isotime(self) -> list[Piece]:
        return [
            (
                f"20{self.rng.randint(10, 30)}-{self.rng.randint(1, 12):02}-{self.rng.randint(1, 28):02}{self.pick('T ')}{self.rng.randint(0, 23):02}:{self.rng.randint(0, 59):02}:{self.rng.randint(0, 59):02}{self.pick(('Z', '', '.123Z'))}",
                "DATE_TIME",
            )
        ]

    def slot_when(self) -> list[Piece]:
        if self.rng.random() < 0.4:
            return [(self.pick(RELATIVE), None)]
        if self.rng.random() < 0.3:
            return [("on ", None), (self.pick(DAYS), "DATE_TIME")]
        return [("on " if self.rng.random() < 0.5 else "in ", None), *self.slot_date()]

    def slot_weekday(self) -> list[Piece]:
        return [(self.pick(DAYS), "DATE_TIME")]

    def slot_month(self) -> list[Piece]:
        return [(self.pick(MONTHS), "DATE_TIME")]

    def slot_year(self) -> list[Piece]:
        return [(str(self.rng.randint(1850, 2030)), "DATE_TIME")]

    def slot_quarter(self) -> list[Piece]:
        return [(self.pick(("Q1", "Q2", "Q3", "Q4", "the third quarter", "the first half")), None)]

    def slot_age_years(self) -> list[Piece]:
        return [(str(self.rng.randint(1, 99)), "AGE")]

    slot_age_num = slot_age_years

    # -- health

    def slot_condition(self) -> list[Piece]:
        lists = {"es": words.CONDITIONS_ES, "de": words.CONDITIONS_DE, "fr": words.CONDITIONS_FR}
        return [(self.pick(lists.get(self.language, words.CONDITIONS)), "MEDICAL_CONDITION")]

    def slot_drug(self) -> list[Piece]:
        return [(self.pick(words.DRUGS), None)]

    # -- numbers that patterns find, and plain ones

    def slot_phone(self) -> list[Piece]:
        names = self.home()
        found = (
            self.pick(names.phones)
            if names.phones and self.rng.random() < 0.7
            else self.shaped(
                "(###) ###-####|###-###-####|+1 ### ### ####|0### ######|+44 7### ######|0## ## ## ## ##|+49 ### #######|### ### ####|(0##) #### ####|+## ## ### ####|###.###.####"
            )
        )
        return [(found, "PHONE_NUMBER")]

    def shaped(self, shapes: str) -> str:
        return "".join(
            self.pick("0123456789") if c == "#" else self.pick(string.ascii_uppercase) if c == "@" else c
            for c in self.pick(shapes.split("|"))
        )

    def slot_email(self) -> list[Piece]:
        names = self.locale()
        first, last = self.pick(names.first).lower().replace(" ", ""), self.pick(names.last).lower().replace(" ", "")
        return [
            (
                f"{first}{self.pick(('.', '_', ''))}{last}@{self.pick(PLAIN)}{self.pick(('.com', '.org', '.net', '.de', '.co.uk', '.test'))}",
                None,
            )
        ]

    def slot_ssn(self) -> list[Piece]:
        return [(self.shaped("###-##-####|### ## ####|#########"), None)]

    def slot_card(self) -> list[Piece]:
        return [(self.shaped("4### #### #### ####|5###############|3### ###### #####|4###-####-####-####"), None)]

    def slot_iban(self) -> list[Piece]:
        return [(self.shaped("DE## #### #### #### #### ##|GB##@@@@##############|FR##########@##########"), None)]

    def slot_passport(self) -> list[Piece]:
        return [(self.shaped("@########|#########|@@#######|@##@#####"), None)]

    slot_plate = slot_passport

    def slot_mrn(self) -> list[Piece]:
        return [(self.shaped("########|######|MRN-#######|@@-######"), None)]

    def slot_orderid(self) -> list[Piece]:
        return [(self.shaped("########|#####|A-#####|ORD-######|@@@##-###|#####-##|##########"), None)]

    def slot_money(self) -> list[Piece]:
        number = self.rng.choice((self.rng.randint(5, 999), self.rng.randint(1, 99) * 1000, self.rng.randint(1, 900)))
        return [
            (
                self.pick(
                    (
                        f"${number:,}",
                        f"{number} EUR",
                        f"€{number:,}",
                        f"{number} million",
                        f"£{number:,}",
                        f"{number:,} dollars",
                        f"${number / 10}m",
                        f"USD {number:,}",
                        f"{number}k",
                        f"{number},000 euros",
                    )
                ),
                None,
            )
        ]

    def slot_percent(self) -> list[Piece]:
        return [
            (
                self.pick(
                    (f"{self.rng.randint(1, 99)} percent", f"{self.rng.randint(1, 99)}%", f"{self.rng.randint(1, 300) / 10} %")
                ),
                None,
            )
        ]

    def slot_number(self) -> list[Piece]:
        return [(str(int(10 ** (self.rng.random() * 6))), None)]

    def slot_small(self) -> list[Piece]:
        return [(str(self.rng.randint(2, 20)), None)]

    def slot_ip(self) -> list[Piece]:
        return [(f"10.{self.rng.randint(0, 255)}.{self.rng.randint(0, 255)}.{self.rng.randint(1, 254)}", None)]

    def slot_hash(self) -> list[Piece]:
        return [(f"{self.rng.getrandbits(160):040x}", None)]

    def slot_uuid(self) -> list[Piece]:
        digits = f"{self.rng.getrandbits(128):032x}"
        return [(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}", None)]

    def slot_password(self) -> list[Piece]:
        return [("".join(self.rng.choices(string.ascii_letters + string.digits + "!#%", k=self.rng.randint(6, 14))), None)]

    # -- plain words

    def slot_wiki(self) -> list[Piece]:
        return list(self.wiki[int(self.rng.random() * len(self.wiki))]) if self.wiki else [(self.pick(PHRASES), None)]

    def slot_intranet(self) -> list[Piece]:
        return [
            (
                f"https://{self.pick(('wiki', 'intranet', 'docs', 'jira'))}.{self.pick(('corp', 'internal', 'acme.local', 'intra'))}/{self.pick(PLAIN)}",
                None,
            )
        ]

    def plain(self, name: str) -> str | None:
        """The slots that are just a word of a list."""
        lists: dict[str, Sequence[str]] = {
            "topic": words.TOPICS, "value": words.VALUES, "code": words.CODE, "phrase": PHRASES, "word": PLAIN, "codeerror": ERRORS, "host": HOSTS, "team": words.TEAMS,
            "project": words.PROJECTS, "product": words.PRODUCTS, "op": ("plus", "times", "minus", "divided by", "*", "+"), "crime": ("theft", "fraud", "assault", "tax evasion"),
        }  # fmt: skip
        found = lists.get(name)
        return self.pick(found) if found else None

    def fill(self, name: str) -> list[Piece]:
        """The pieces for a slot. Raises KeyError for one that nobody knows."""
        plain = self.plain(name)
        return [(plain, None)] if plain is not None else self.slots[name]()
