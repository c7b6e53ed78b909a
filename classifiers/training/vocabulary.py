"""Word lists written for the project: what the templates' slots are filled with where Faker has nothing."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", " ").split(";") if part.strip())


CONDITIONS = _words("""
diabetes; type 2 diabetes; type 1 diabetes; gestational diabetes; hypertension; high blood pressure; asthma; COPD; depression;
major depressive disorder; bipolar disorder; schizophrenia; anxiety; generalized anxiety disorder; PTSD; ADHD; autism; epilepsy;
seizures; migraine; chronic migraine; stroke; heart attack; myocardial infarction; heart failure; congestive heart failure; atrial
fibrillation; angina; arrhythmia; breast cancer; lung cancer; prostate cancer; colon cancer; stage 3 melanoma; leukemia; acute
lymphoblastic leukemia; lymphoma; Hodgkin lymphoma; pancreatic cancer; ovarian cancer; cervical cancer; brain tumor; glioblastoma;
HIV; HIV infection; AIDS; hepatitis B; hepatitis C; cirrhosis; liver failure; kidney failure; chronic kidney disease; end-stage renal
disease; kidney stones; urinary tract infection; UTI; pneumonia; bronchitis; tuberculosis; influenza; COVID-19; long COVID; sepsis;
meningitis; Lyme disease; malaria; dengue fever; chickenpox; shingles; measles; herpes; genital herpes; syphilis; gonorrhea;
chlamydia; HPV; multiple sclerosis; Parkinson's disease; Alzheimer's disease; dementia; ALS; muscular dystrophy; cerebral palsy;
rheumatoid arthritis; osteoarthritis; arthritis; gout; lupus; fibromyalgia; osteoporosis; scoliosis; herniated disc; back pain;
chronic back pain; sciatica; carpal tunnel syndrome; fractured wrist; broken leg; hip fracture; torn ACL; concussion; celiac disease;
Crohn's disease; ulcerative colitis; irritable bowel syndrome; IBS; gastritis; GERD; acid reflux; peptic ulcer; gallstones;
appendicitis; pancreatitis; hernia; hypothyroidism; hyperthyroidism; Graves' disease; Hashimoto's thyroiditis; anemia; iron deficiency
anemia; sickle cell disease; hemophilia; deep vein thrombosis; pulmonary embolism; obesity; anorexia; anorexia nervosa; bulimia;
alcoholism; alcohol dependence; opioid addiction; drug addiction; insomnia; sleep apnea; narcolepsy; glaucoma; cataracts; macular
degeneration; hearing loss; tinnitus; psoriasis; eczema; acne; vitiligo; rosacea; peanut allergy; penicillin allergy; hay fever;
anaphylaxis; endometriosis; PCOS; polycystic ovary syndrome; infertility; miscarriage; ectopic pregnancy; preeclampsia; postpartum
depression; menopause; erectile dysfunction; cystic fibrosis; Down syndrome; Huntington's disease; spina bifida; OCD;
obsessive-compulsive disorder; borderline personality disorder; panic attacks; panic disorder; suicidal thoughts; self-harm; burnout;
chronic fatigue syndrome; chest pain; shortness of breath; high cholesterol; hyperlipidemia; prediabetes; arrhythmias; heart murmur;
aortic stenosis; peripheral neuropathy; diabetic retinopathy; cellulitis; MRSA infection; C. diff infection; scarlet fever; whooping
cough; mononucleosis; sarcoidosis; myasthenia gravis; Guillain-Barré syndrome; trigeminal neuralgia; vertigo; Ménière's disease
""")
CONDITIONS_ES = _words(
    "diabetes; hipertensión arterial; asma; depresión; cáncer de mama; cáncer de pulmón; epilepsia; ansiedad; VIH; infarto; anemia; artritis; neumonía; migraña; insuficiencia renal; hepatitis C; esquizofrenia; Alzheimer"
)
CONDITIONS_DE = _words(
    "Diabetes; Bluthochdruck; Asthma; Depression; Brustkrebs; Lungenkrebs; Epilepsie; Angststörung; HIV; Herzinfarkt; Anämie; Arthrose; Lungenentzündung; Migräne; Nierenversagen; Hepatitis C; Schlaganfall; Demenz; Rheuma"
)
CONDITIONS_FR = _words(
    "diabète; hypertension; asthme; dépression; cancer du sein; cancer du poumon; épilepsie; anxiété; VIH; infarctus; anémie; arthrite; pneumonie; migraine; insuffisance rénale; hépatite C; schizophrénie; sclérose en plaques"
)

DRUGS = _words("""
metformin; insulin; lisinopril; amlodipine; atorvastatin; simvastatin; metoprolol; warfarin; apixaban; aspirin; ibuprofen; paracetamol;
acetaminophen; amoxicillin; azithromycin; ciprofloxacin; doxycycline; prednisone; albuterol; sertraline; fluoxetine; citalopram;
escitalopram; venlafaxine; bupropion; lithium; quetiapine; olanzapine; risperidone; clozapine; alprazolam; lorazepam; diazepam;
zolpidem; methylphenidate; oxycodone; hydrocodone; morphine; fentanyl; tramadol; methadone; buprenorphine; naloxone; gabapentin;
pregabalin; levothyroxine; omeprazole; pantoprazole; tamoxifen; methotrexate; adalimumab; sumatriptan; valproate; levetiracetam
""")

JOBS = _words("""
software engineer; senior software engineer; data scientist; product manager; project manager; accountant; senior accountant; teacher;
primary school teacher; nurse; registered nurse; head nurse; surgeon; doctor; dentist; pharmacist; lawyer; attorney; paralegal; judge;
electrician; plumber; carpenter; welder; mechanic; truck driver; bus driver; pilot; flight attendant; chef; sous chef; waiter;
waitress; bartender; barista; cashier; sales manager; sales representative; marketing director; CEO; CFO; CTO; COO; chief executive
officer; chief financial officer; vice president of sales; HR manager; HR business partner; recruiter; receptionist; secretary;
executive assistant; office manager; analyst; financial analyst; business analyst; security analyst; investment banker; trader; auditor;
tax advisor; consultant; management consultant; architect; civil engineer; mechanical engineer; electrical engineer; chemist; biologist;
physicist; research assistant; professor; librarian; journalist; reporter; editor; photographer; graphic designer; UX designer; web
developer; backend developer; DevOps engineer; database administrator; system administrator; network engineer; help desk technician;
warehouse worker; forklift operator; delivery driver; postman; firefighter; police officer; detective; soldier; army captain; security
guard; janitor; cleaner; gardener; farmer; butcher; baker; tailor; hairdresser; actor; actress; singer; musician; dancer; novelist;
translator; interpreter; social worker; psychologist; therapist; physiotherapist; veterinarian; paramedic; radiologist; cardiologist;
oncologist; general practitioner; midwife; optician; real estate agent; insurance agent; insurance broker; claims adjuster; loan
officer; bank teller; branch manager; underwriter; store manager; shop assistant; buyer; logistics coordinator; supply chain manager;
production manager; plant manager; quality inspector; machinist; construction worker; roofer; painter; surveyor; geologist; statistician;
economist; politician; mayor; ambassador; priest; imam; rabbi; yoga instructor; personal trainer; football coach; tour guide; travel agent
""")
JOBS_ES = _words(
    "profesora; médico; enfermera; abogado; ingeniero de software; contable; director financiero; camarero; fontanero; arquitecta; periodista; conductor de autobús; farmacéutica; jefa de ventas; policía"
)
JOBS_DE = _words(
    "Lehrerin; Arzt; Krankenschwester; Rechtsanwalt; Softwareentwickler; Buchhalterin; Geschäftsführer; Kellner; Klempner; Architektin; Journalist; Busfahrer; Apothekerin; Vertriebsleiter; Polizist; Steuerberater"
)
JOBS_FR = _words(
    "professeure; médecin; infirmière; avocat; ingénieur logiciel; comptable; directeur financier; serveur; plombier; architecte; journaliste; chauffeur de bus; pharmacienne; directrice des ventes; policier"
)

NRP = _words("""
American; British; German; French; Spanish; Italian; Portuguese; Dutch; Belgian; Swiss; Austrian; Polish; Czech; Slovak; Hungarian;
Romanian; Bulgarian; Greek; Turkish; Russian; Ukrainian; Swedish; Norwegian; Danish; Finnish; Icelandic; Irish; Scottish; Welsh;
English; Chinese; Japanese; Korean; Vietnamese; Thai; Indonesian; Malaysian; Filipino; Indian; Pakistani; Bangladeshi; Nepalese; Sri
Lankan; Iranian; Iraqi; Syrian; Lebanese; Israeli; Palestinian; Saudi; Egyptian; Moroccan; Algerian; Tunisian; Libyan; Nigerian;
Ghanaian; Kenyan; Ethiopian; Somali; South African; Zimbabwean; Brazilian; Argentinian; Chilean; Peruvian; Colombian; Venezuelan;
Mexican; Cuban; Jamaican; Haitian; Dominican; Canadian; Australian; New Zealander; Croatian; Serbian; Slovenian; Bosnian; Albanian;
Latvian; Lithuanian; Estonian; Armenian; Georgian; Azerbaijani; Kazakh; Afghan; Mongolian; Taiwanese; Singaporean; European; African;
Asian; Latino; Hispanic; Arab; Kurdish; Catalan; Basque; Christian; Catholic; Protestant; Orthodox; Muslim; Sunni; Shia; Jewish; Hindu;
Buddhist; Sikh; Mormon; Lutheran; Baptist; Methodist; Jehovah's Witness; atheist; Republican; Democrat; Democrats; Republicans; Tory;
Labour; Conservative; Liberal; socialist; communist; Green Party; Americans; Germans; Italians; Russians; Muslims; Christians; Jews
""")

TITLES = _words(
    "Mr.; Mrs.; Ms.; Miss; Dr.; Prof.; Mr; Mrs; Ms; Dr; Professor; Sir; Madam; Rev.; Hon.; Captain; Judge; Sen.; Lord; Lady"
)

ORGANIZATIONS = _words("""
Google; Microsoft; Apple; Amazon; Meta; Facebook; Netflix; IBM; Oracle; SAP; Siemens; Bosch; Volkswagen; BMW; Daimler; Toyota; Honda;
Samsung; Sony; Nokia; Ericsson; Intel; AMD; Nvidia; Cisco; Dell; HP; Lenovo; Huawei; Alibaba; Tencent; Uber; Lyft; Airbnb; Tesla;
General Motors; Ford; Boeing; Airbus; Lufthansa; Air France; KLM; Delta Air Lines; JPMorgan Chase; Goldman Sachs; Morgan Stanley; Bank of
America; Wells Fargo; Citibank; HSBC; Barclays; Deutsche Bank; Commerzbank; BNP Paribas; Société Générale; Santander; UBS; Credit Suisse;
Visa; Mastercard; PayPal; Stripe; American Express; Pfizer; Novartis; Roche; Bayer; Merck; AstraZeneca; Sanofi; GSK; Johnson & Johnson;
Walmart; Target; Costco; Tesco; Carrefour; Aldi; Lidl; IKEA; H&M; Zara; Nike; Adidas; Puma; Coca-Cola; PepsiCo; Nestlé; Unilever;
Procter & Gamble; McDonald's; Starbucks; Burger King; Shell; BP; ExxonMobil; Total; Chevron; Gazprom; the United Nations; UNICEF; WHO; NATO;
the European Commission; the European Union; EU; the IMF; the World Bank; the Red Cross; Greenpeace; Amnesty International; NASA; ESA; FBI;
CIA; IRS; FDA; NHS; SEC; the Senate; the Supreme Court; Harvard University; MIT; Stanford University; Oxford University; University of
Cambridge; ETH Zurich; Yale; Real Madrid; FC Barcelona; Manchester United; Bayern Munich; the Lakers; New York Yankees; BBC; CNN; Reuters;
The New York Times; The Guardian; Der Spiegel; Le Monde; Accenture; Deloitte; KPMG; PwC; Ernst & Young; McKinsey; FedEx; UPS; DHL; Verizon;
AT&T; T-Mobile; Vodafone; Orange; Telefónica; Comcast; Disney; Warner Bros; Universal Music; Spotify; Twitter; LinkedIn; Reddit; eBay
""")
ORG_HEAD = _words("""
Northwind; Blue Ridge; Summit; Evergreen; Lakeside; Pinnacle; Silver Oak; Redwood; Ironbridge; Clearwater; Brightside; Horizon; Vertex;
Quantum; Nova; Apex; Orion; Atlas; Helios; Zenith; Cobalt; Granite; Harbor; Meridian; Falcon; Phoenix; Crestview; Maple Leaf; Stonegate;
Riverbend; Goldfinch; Sunrise; Polaris; Vanguard; Sterling; Heritage; Liberty; Pacific; Atlantic; Midland; Great Lakes; Alpine; Nordic;
Baltic; Rhine; Danube; Iberia; Adriatic; Zentra; Novatek; Luminor; Axiom; Synthex; Veridian; Tellus; Cygnus; Omnicore; Datalynx; Brightwell
""")
ORG_TAIL = _words("""
Bank; Systems; Technologies; Solutions; Consulting; Partners; Capital; Holdings; Group; Industries; Logistics; Pharma; Pharmaceuticals;
Biotech; Labs; Software; Media; Energy; Insurance; Foods; Motors; Airlines; Telecom; Ventures; Analytics; Security; Health; Healthcare;
Credit Union; Savings Bank; Law Firm; LLP; Associates; Construction; Dentistry; Pharmacy; Bakery; Church; School; College; Hotel; Museum; Theatre; Restaurant; Cafe; Airways; Shipping; Trust; Fund; Club; Society; Institute; Council; Agency; Press; Records; Films; Games; Realty; Properties; Mining; Steel; Chemicals; Robotics; Studios
""")
ORG_FORM = (
    "",
    "",
    "",
    "",
    " Inc",
    " Inc.",
    " LLC",
    " Ltd",
    " Ltd.",
    " Corp",
    " Corporation",
    " PLC",
    " GmbH",
    " AG",
    " S.A.",
    " BV",
    " Co.",
    " SpA",
    " AB",
)
INSTITUTION = (
    "University of {city}", "{city} University", "{city} General Hospital", "St. {first}'s Hospital", "{last} Memorial Hospital", "{city} High School",
    "{last} & {last2}", "{last}, {last2} and {last3}", "{last} and Sons", "{last} Group", "{last} Foundation", "{city} City Council", "First National Bank of {city}",
    "{city} Police Department", "{city} Chamber of Commerce", "Bank of {city}", "{city} Times", "{city} Medical Center", "Ministry of {ministry}",
    "Department of {ministry}", "{last} Elementary School", "{city} FC", "{city} Symphony Orchestra", "Museum of {city}", "{last} Clinic", "{last} Brothers", "{last}-{last2}",
)  # fmt: skip
MINISTRIES = _words(
    "Health; Education; Justice; Finance; Defence; Agriculture; Transport; Labor; Energy; Foreign Affairs; the Interior; Veterans Affairs; Motor Vehicles"
)

PROJECTS = _words("""
Falcon; Bluebird; Nightingale; Titan; Odyssey; Aurora; Kestrel; Juniper; Mercury; Everest; Sapphire; Cascade; Tundra; Marlin; Lighthouse;
Beacon; Condor; Zephyr; Monarch; Obsidian; Saffron; Trident; Willow; Yellowstone; Pegasus; Raven; Hermes; Solstice; Granite; Maverick
""")
TEAMS = _words("""
platform team; payments team; finance team; sales team; marketing; HR; legal; data team; infrastructure team; support team; QA team;
design team; procurement; the Berlin office; facilities; compliance; the board; ops; security team; mobile team; customer success
""")
PRODUCTS = _words("""
mobile app; billing system; checkout flow; data warehouse; recommendation engine; loyalty programme; ERP; CRM; onboarding portal; new router;
trading platform; claims portal; chatbot; internal wiki; payroll system; next-generation battery; firmware; search service; pricing engine
""")
TOPICS = _words("""
photosynthesis; black holes; the French Revolution; quantum computing; binary search; recursion; machine learning; neural networks; the
water cycle; plate tectonics; supply and demand; inflation; compound interest; the Roman Empire; World War II; the Cold War; climate change;
renewable energy; solar panels; electric cars; vaccines; antibiotics; DNA; evolution; gravity; the periodic table; chemical bonds; algebra;
calculus; statistics; probability; Bayes' theorem; linear regression; databases; SQL joins; indexes; REST APIs; GraphQL; Docker; Kubernetes;
Git branches; unit testing; design patterns; object-oriented programming; functional programming; Python decorators; JavaScript promises;
CSS grid; TCP and UDP; DNS; HTTPS; public key cryptography; hashing; blockchain; bitcoin mining; stock markets; mutual funds; mortgages; taxes;
the GDPR; HIPAA; copyright law; non-disclosure agreements; attorney-client privilege; insider trading; mergers and acquisitions; due
diligence; employment contracts; whistleblowing; diabetes; high blood pressure; depression; cancer; the flu; healthy eating; vitamins; sleep;
meditation; yoga; marathon training; weight lifting; football; chess openings; the Olympics; jazz; opera; impressionism; photography; cooking
pasta; baking bread; sourdough; coffee brewing; wine; gardening; houseplants; bees; whales; dinosaurs; dogs; cats; the Moon landing; Mars;
telescopes; volcanoes; earthquakes; hurricanes; rainforests; deserts; rivers; the Alps; travel in Japan; learning Spanish; German grammar;
French verbs; public speaking; job interviews; time management; leadership; project management; agile methods; scrum; remote work; passwords;
two-factor authentication; phishing; SQL injection; cross-site scripting; penetration testing; encryption; firewalls; VPNs; backups; the stock
market crash of 1929; the Great Depression; Shakespeare; Don Quixote; poetry; haiku; the Odyssey; Greek mythology; Norse gods; philosophy;
stoicism; ethics; democracy; constitutions; human rights; the United Nations; the European Union; elections; lobbying; urban planning;
public transport; airplanes; ships; bridges; architecture; concrete; steel; 3D printing; robots; drones; self-driving cars; large language models
""")
FAMOUS = _words("""
Albert Einstein; Marie Curie; Isaac Newton; Charles Darwin; Ada Lovelace; Alan Turing; Leonardo da Vinci; Michelangelo; Mozart; Beethoven;
Napoleon; Julius Caesar; Cleopatra; Abraham Lincoln; George Washington; Winston Churchill; Nelson Mandela; Mahatma Gandhi; Martin Luther King;
Barack Obama; Angela Merkel; Steve Jobs; Bill Gates; Elon Musk; Taylor Swift; Beyoncé; Lionel Messi; Serena Williams; Stephen Hawking; Frida
Kahlo; Pablo Picasso; Jane Austen; Ernest Hemingway; Franz Kafka; Goethe; Voltaire; Sigmund Freud; Karl Marx; Nikola Tesla; Thomas Edison
""")
CODE = _words("""
a function that reverses a string; a script that renames files; a class for a binary tree; a regex for e-mail addresses; a SQL query that counts
orders per month; a Dockerfile for a Flask app; a bash loop over files; a unit test for a calculator; a React button; a CSS animation; a web
scraper; a REST endpoint in Go; a sorting algorithm; quicksort in C; a linked list in Java; a password validator; a rate limiter; a queue in Rust;
a Makefile; a GitHub workflow; a pandas script that merges two CSV files; a chart with matplotlib; a Fibonacci function; a prime sieve
""")
VALUES = _words(
    "honesty; time; family; rain; autumn; the sea; a lost key; two friends; a dragon; a lighthouse; the last train; hope; silence; a robot that dreams"
)
